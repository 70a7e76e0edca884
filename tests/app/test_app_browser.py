"""The app in a real browser: upload, reconstruct, adjust, download, leave."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
]  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of the app, its process, and the folder that holds its temporary files."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("serve_stand_in.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(port)], env=os.environ | {"TMPDIR": str(folder)}
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            assert process.poll() is None
            time.sleep(0.5)
    yield address, process, folder
    process.kill()
    process.wait()


@pytest.fixture
def browser_page(served):
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, accept_downloads=True)
        page.set_default_timeout(60_000)
        page.goto(served[0])
        page.wait_for_selector("#reconstruct")
        yield page
        browser.close()


@pytest.fixture
def photographs(tmp_path):
    paths = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        ramp = np.linspace(0, 200, 64 * 48 * 3).reshape(48, 64, 3)
        Image.fromarray((ramp + 20 * index).astype(np.uint8)).save(path)
        paths.append(str(path))
    large = tmp_path / "large.bmp"
    Image.new("RGB", (900, 900)).save(large)
    return [*paths, str(large)]


def upload(page, paths):
    page.locator("input[type=file]").first.set_input_files(paths)
    for path in paths:
        page.get_by_text(path.split("/")[-1].split(".")[0]).first.wait_for()


def download(page, name, folder):
    button = page.get_by_role("button", name=f"Download {name}")
    page.wait_for_function("b => !b.disabled", arg=button.element_handle())
    with page.expect_download() as event:
        button.click()
    path = folder / event.value.suggested_filename
    event.value.save_as(path)
    return path


def test_upload_reconstruct_adjust_download_and_leave(served, browser_page, photographs, tmp_path):
    address, _, folder = served
    page = browser_page
    outside = []
    page.on(
        "request",
        lambda r: None if r.url.startswith((address, "blob:", "data:")) else outside.append(r.url),
    )
    upload(page, photographs[:2])
    page.click("#reconstruct")
    page.wait_for_selector("#summary table")
    assert "2 photographs" in page.inner_text("#summary")
    page.wait_for_selector("canvas")
    surface = trimesh.load(download(page, "GLB", tmp_path)).geometry
    assert len(surface["surface"].faces) > 3000
    page.get_by_role("radio", name="Points").check()
    page.wait_for_timeout(3000)
    points = trimesh.load(download(page, "GLB", tmp_path)).geometry["points"].vertices
    slider = page.locator("input[type=range]").first
    slider.fill("60")
    slider.dispatch_event("pointerup")
    page.wait_for_timeout(3000)
    fewer = trimesh.load(download(page, "GLB", tmp_path)).geometry["points"].vertices
    assert len(fewer) < 0.8 * len(points)
    assert len(trimesh.load(download(page, "PLY", tmp_path)).vertices) == len(fewer)
    with zipfile.ZipFile(download(page, "COLMAP (zip)", tmp_path)) as archive:
        assert {"sparse/0/points3D.bin", "images/1.png"} <= set(archive.namelist())
    assert not outside
    sessions = list(folder.glob("croco3d-app-*/session-*"))
    assert len(sessions) == 1
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while sessions[0].exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not sessions[0].exists()


def test_errors_are_one_sentence(browser_page, photographs):
    page = browser_page
    page.click("#reconstruct")
    page.get_by_text("Add at least two photographs of the same scene.").wait_for()
    upload(page, photographs[:3])
    page.click("#reconstruct")
    page.get_by_text("2.png has no confident pair with any other image.").wait_for()
    assert "Traceback" not in page.content()


def test_large_uploads_are_refused(served, browser_page, photographs):
    browser_page.locator("input[type=file]").first.set_input_files(photographs[3:])
    browser_page.get_by_text("exceed the maximum allowed size").first.wait_for()
    assert not list(served[2].rglob("large.bmp"))


def test_ending_the_server_removes_everything(served):
    _, process, folder = served
    assert list(folder.glob("croco3d-app-*"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert not list(folder.glob("croco3d-app-*"))
