"""The 3-D viewer of the pages, in a real browser: drawn, without errors, on a telephone too."""

import base64
import io
import shutil

import numpy as np
import pytest
import torch
from pages import DOCS
from PIL import Image

from croco3d.scene import Camera, Scene

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
SIDE = 48


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page as the documentation has it, with a red wall two metres ahead, opened as a file."""
    folder = tmp_path_factory.mktemp("viewer")
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    wall = torch.stack((columns, rows, torch.full_like(rows, SIDE)), dim=-1).float() * 2 / SIDE
    wall[..., :2] -= 1
    scene = Scene(
        cameras=[Camera(torch.eye(3), torch.eye(4), SIDE, SIDE)],
        pointmaps=[wall],
        depthmaps=[wall[..., 2]],
        confidences=[torch.ones(SIDE, SIDE)],
        images=[torch.tensor([230, 20, 20], dtype=torch.uint8).expand(SIDE, SIDE, 3)],
    )
    scene.save(folder / "wall.glb", show_cameras=False)
    glb = base64.b64encode((folder / "wall.glb").read_bytes()).decode()
    viewer = (DOCS / "assets/viewer/croco3d-viewer.js").as_uri()
    (folder / "index.html").write_text(
        '<!doctype html><meta name="viewport" content="width=device-width">'
        f'<script defer src="{viewer}"></script>'
        f'<croco3d-view src="data:model/gltf-binary;base64,{glb}"></croco3d-view>'
    )
    return folder / "index.html"


@pytest.mark.parametrize("size", [(1000, 800), (390, 844)], ids=["desk", "telephone"])
def test_wall_is_drawn(browser, page_file, size):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    problems, requests = [], []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    view = page.locator(f'croco3d-view[data-drawn="{SIDE * SIDE}"]')
    view.wait_for(timeout=30_000)
    red = share_of_red(view.screenshot())
    page.locator("croco3d-view button[data-act=larger]").click()
    larger = share_of_red(view.screenshot())
    box = view.bounding_box()
    page.close()

    assert not problems
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert red > 0.05
    assert larger > 1.2 * red
    assert box["width"] <= size[0] and box["height"] <= size[1]


def test_scene_that_cannot_be_read_says_so(browser, page_file):
    page = browser.new_page()
    broken = page_file.with_name("broken.html")
    text = page_file.read_text()
    start = text.index("base64,") + len("base64,")
    broken.write_text(text[:start] + "AAAA" + text[text.index('">', start) :])
    page.goto(broken.as_uri())
    message = page.get_by_text("cannot be shown")
    message.wait_for(timeout=30_000)
    page.close()


def share_of_red(png):
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return float(((pixels[..., 0] > 150) & (pixels[..., 1] < 90)).mean())
