import numpy as np
import pytest
import torch
from analytic_scene import SIZE, analytic_scene, view
from PIL import Image

from croco3d.scene import Camera, Scene
from croco3d.scene.preview import draw_preview, preview_picture, turbo
from croco3d.scene.rendering import Splats, look_at, oblique_camera, render_splats, scene_splats


@pytest.fixture(scope="module")
def scene():
    return analytic_scene(3)


def test_nearer_splats_hide_farther_ones():
    camera = Camera(torch.tensor([[10.0, 0, 4], [0, 10, 4], [0, 0, 1]]), torch.eye(4), 9, 9)
    splats = Splats(
        np.array([[0, 0, 2.0], [0, 0, 4.0], [0.4, 0, 4.0], [0, 0, -1.0]]),
        np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8),
        np.array([0.4, 0.4, 0.4, 0.4]),
    )
    image, depth = render_splats(splats, camera)
    assert image[4, 4].tolist() == [255, 0, 0] and depth[4, 4] == 2
    assert image[4, 5].tolist() == [255, 0, 0] and depth[4, 6] == 4
    assert np.isinf(depth[0, 0]) and image[0, 0].tolist() == [0, 0, 0]


def test_rendering_from_a_camera_gives_its_own_photograph(scene):
    image, depth = render_splats(scene_splats(scene), scene.cameras[1])
    _, truth = view(scene.cameras[1].cam2world.numpy(), np.arange(SIZE[0]), np.arange(SIZE[1]))
    hit = np.isfinite(depth)
    assert hit[60:300].mean() > 0.9
    assert np.median(np.abs(depth[hit] - truth[hit]) / truth[hit]) < 0.04


def test_views_are_level_and_frame_the_scene(scene):
    pose = look_at(np.array([1.0, -2, 3]), np.array([0.0, 0, 8]), np.array([0.0, -1, 0]))
    assert pose[:3, 0] @ [0, -1, 0] == pytest.approx(0)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1) and pose[1, 1] > 0
    splats = scene_splats(scene)
    camera = oblique_camera(scene, splats, 400, 300)
    pixels, depth = camera.project(torch.from_numpy(splats.points))
    inside = ((pixels > 0) & (pixels < torch.tensor([400, 300]))).all(1) & (depth > 0)
    assert inside.double().mean() > 0.95
    centers, _ = camera.project(torch.stack([c.center for c in scene.cameras]))
    assert ((centers > 0) & (centers < torch.tensor([400, 300]))).all()


def test_preview_shows_images_depth_and_confidence(scene, tmp_path):
    draw_preview(scene, tmp_path / "a.png", min_confidence=30)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape[0] > 500 and picture.shape[1] > 1200 and picture.shape[2] == 3
    # The first tile is the first image, enlarged; depth and confidence are coloured.
    tile = picture[50 : 50 + 194, 24 : 24 + 310].astype(int)
    shown = np.asarray(Image.fromarray(scene.images[0].numpy()).resize((310, 194), 2)).astype(int)
    assert np.median(np.abs(tile - shown)) < 8
    assert picture[150:900, 350:640].std() > 30 and picture[150:900, 680:950].std() > 30


def test_turbo_runs_from_blue_to_red():
    colors = turbo(np.array([[0.0, 1.0, 2.0, np.nan]]), (0, 2))[0].astype(int)
    assert colors[0, 2] > colors[0, 0] and colors[2, 0] > colors[2, 2] + 50
    assert colors[1, 1] > 200 and (colors[3] == colors[0]).all()


def test_previews_of_unusual_scenes():
    portrait = Scene(
        [Camera(torch.diag(torch.tensor([20.0, 20, 1])), torch.eye(4), 12, 20)] * 7,
        [torch.rand(20, 12, 3) + torch.tensor([0, 0, 2.0]) for _ in range(7)],
        [torch.rand(20, 12) + 2 for _ in range(7)],
        [torch.ones(20, 12)] * 7,
        names=["a very long name of a photograph.jpg"] * 7,
    )
    assert preview_picture(portrait).shape[2] == 3
    empty = Scene(portrait.cameras[:1], [torch.full((20, 12, 3), torch.nan)],
                  [torch.zeros(20, 12)], [torch.zeros(20, 12)])  # fmt: skip
    assert preview_picture(empty).shape[2] == 3


def test_preview_must_be_png(scene, tmp_path):
    with pytest.raises(ValueError, match=r"end .*a.jpg.* with .png"):
        draw_preview(scene, tmp_path / "a.jpg")
