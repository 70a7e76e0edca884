"""The viser viewer in a real browser: the scene fills the first view, and the controls act."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from croco3d.scene import Camera, Scene

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


@pytest.fixture
def wall():
    """A red wall two metres ahead of two cameras, its left half less sure than its right."""
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    points = torch.stack([(columns - 32) / 30, (rows - 24) / 30, torch.full((48, 64), 2.0)], -1)
    intrinsics = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    return Scene(
        cameras=[Camera(intrinsics, torch.eye(4), 64, 48)] * 2,
        pointmaps=[points, points],
        depthmaps=[points[..., 2]] * 2,
        confidences=[1.0 + (columns >= 32)] * 2,
        images=[torch.tensor([230, 20, 20], dtype=torch.uint8).expand(48, 64, 3)] * 2,
    )


def share_of_red(page):
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    return float(((pixels[..., 0] > 150) & (pixels[..., 1] < 90)).mean())


def wait_until(page, holds):
    for _ in range(60):
        found = share_of_red(page)
        if holds(found):
            return found
        page.wait_for_timeout(1000)
    raise AssertionError(f"{found:.3f} of the page is red")


def test_the_wall_is_seen_and_the_controls_act(wall):
    viser = pytest.importorskip("viser")
    api = pytest.importorskip("playwright.sync_api")
    from croco3d.viewer import fill_viewer

    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        handles = fill_viewer(server, wall)
        address = f"http://127.0.0.1:{server.get_port()}"
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 800, "height": 600})
            page.set_default_timeout(60_000)
            problems, outside = [], []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda r: outside.append(r.url) if foreign(r.url, address) else None)
            page.goto(address)
            handles.show_cameras.value = False
            whole = wait_until(page, lambda share: share > 0.15)
            handles.confidence.value = 50
            half = wait_until(page, lambda share: share < 0.7 * whole)
            assert half > 0.3 * whole
            handles.point_size.value = 0.2
            wait_until(page, lambda share: share < 0.5 * half)
            browser.close()
    finally:
        server.stop()
    assert not problems and not outside


def foreign(url, address):
    return not url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))
