import inspect
import json
import re

import numpy as np
import pytest
import trimesh
from PIL import Image

from croco3d import AutoCroco3D, reconstruct
from croco3d.cli import program
from croco3d.cli.reconstruct import reconstruct as reconstruct_command
from croco3d.demo import demo_views
from croco3d.images import load_image
from croco3d.scene import Scene


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AutoCroco3D.from_pretrained("croco3d-rooms").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            program.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return stopped.value.code, streams.out, streams.err

    return call


def test_two_photographs_to_a_scene(run, weights, tmp_path):
    code, out, err = run(
        "reconstruct", *demo_views(2), "--model", weights, "-o", tmp_path / "scene.glb",
        "--preview", tmp_path / "scene.png", "--min-confidence", 25, "--json",
    )  # fmt: skip
    assert code == 0, err
    points = sum(
        len(g.vertices)
        for g in trimesh.load(tmp_path / "scene.glb").geometry.values()
        if isinstance(g, trimesh.PointCloud)
    )
    # An untrained network puts some points behind the camera, which are left out too.
    assert 0 < points <= 0.76 * 2 * 128 * 96
    with Image.open(tmp_path / "scene.png") as picture:
        assert min(picture.size) > 200
    summary = json.loads(out)
    assert [image["name"] for image in summary["images"]] == ["view_0.jpg", "view_1.jpg"]
    assert summary["points"] == 2 * 128 * 96
    assert set(summary["seconds"]) == {"load", "read", "predict", "align"}
    assert "2 images of 512x384 pixels" in err
    assert "needs about" in err


def test_a_folder_to_npz_with_a_cache(run, weights, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in demo_views(3):
        (photos / path.name).write_bytes(path.read_bytes())
    for _ in range(2):
        code, _, err = run(
            "reconstruct", photos, "-m", weights, "-o", tmp_path / "scene.npz",
            "--graph", "swin-1", "--cache", tmp_path / "cache", "--trajectory", tmp_path / "t.txt",
        )  # fmt: skip
        assert code == 0, err
    assert "6 pairs are in the cache already" in err
    scene = Scene.load(tmp_path / "scene.npz")
    assert scene.names == ["view_0.jpg", "view_1.jpg", "view_2.jpg"]
    assert len((tmp_path / "t.txt").read_text().splitlines()) >= 3


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "is empty"), (b"text", "is not an image")],
)
def test_bad_photographs_leave_nothing_behind(run, weights, tmp_path, content, message):
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    target = tmp_path / "out" / "scene.glb"
    code, out, err = run("reconstruct", demo_views(1)[0], bad, "-m", weights, "-o", target)
    assert code == 1
    assert out == ""
    assert f"{bad} {message}" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not target.parent.exists()


def test_one_photograph_is_too_few(run, weights):
    code, _, err = run("reconstruct", demo_views(1)[0], "-m", weights)
    assert code == 1
    assert "at least two photographs" in err


def test_weights_that_cannot_be_had_offline(run, tmp_path):
    code, _, err = run("reconstruct", *demo_views(2), "-m", "nobody/nothing")
    assert code == 1
    last = err.splitlines()[-1]
    assert "nobody/nothing" in last
    assert "hf download nobody/nothing" in last
    assert "HF_HUB_OFFLINE is set" in last


def test_skip_bad_lists_what_was_left_out(run, weights, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    code, out, err = run("reconstruct", *demo_views(2), bad, "-m", weights, "--skip-bad", "--json")
    assert code == 0, err
    assert "Left out bad.jpg" in err
    assert json.loads(out)["left_out"][0]["name"] == "bad.jpg"


def test_a_failed_save_keeps_the_earlier_file(run, weights, tmp_path, monkeypatch):
    target = tmp_path / "scene.ply"
    target.write_bytes(b"earlier")
    monkeypatch.setattr(
        "os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left", str(target)))
    )
    code, _, err = run("reconstruct", *demo_views(2), "-m", weights, "-o", target)
    assert code == 1
    assert "No space left" in err.splitlines()[-1]
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_demo_reconstructs_the_room_better_than_the_mean_pointmap(run, tmp_path):
    code, out, err = run("demo", "-o", tmp_path / "demo")
    assert code == 0, err
    for count in (2, 4):
        line = next(line for line in out.splitlines() if line.startswith(f"{count} views: "))
        error, baseline = (float(number) for number in re.findall(r"\d\.\d{3}", line))
        assert error < baseline
    written = sorted(path.name for path in (tmp_path / "demo").iterdir())
    assert written == [f"room_{n}_views.{kind}" for n in (2, 4) for kind in ("glb", "png")]


def test_demo_measures_against_the_truth():
    """A reconstruction made from the stored truth has no error; a turned camera has."""
    import torch
    from safetensors.torch import load_file

    from croco3d import demo
    from croco3d.scene import Camera

    truth = load_file(demo.ROOM / "truth.safetensors")
    cameras, pointmaps, depthmaps = [], [], []
    to_original = torch.tensor([[4.0, 0, 1.5], [0, 4.0, 1.5], [0, 0, 1]])
    for index in range(2):
        points, _ = demo._true_points(
            truth["depth"][index].float(), truth["intrinsics"][index], to_original, (96, 128)
        )
        pose = truth["cam2world"][index]
        cameras.append(Camera(truth["intrinsics"][index], pose, 512, 384))
        pointmaps.append(0.3 * (points @ pose[:3, :3].T + pose[:3, 3]))
        depthmaps.append(points[..., 2])
    for camera in cameras:
        camera.cam2world = camera.cam2world.clone()
        camera.cam2world[:3, 3] *= 0.3
    scene = Scene(
        cameras,
        pointmaps,
        depthmaps,
        [torch.ones(96, 128)] * 2,
        pixel_to_original=[to_original] * 2,
    )
    errors = demo.demo_errors(scene)
    assert errors.pointmaps < 1e-3
    assert errors.rotation < 0.1
    assert 0.2 < errors.baseline < 1
    assert errors.position is None
    angle = np.radians(10)
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = float(np.cos(angle))
    turn[0, 2], turn[2, 0] = float(np.sin(angle)), -float(np.sin(angle))
    cameras[1].cam2world = cameras[1].cam2world @ turn
    assert demo.demo_errors(scene).rotation == pytest.approx(10, abs=0.1)


def test_truth_of_the_demo_agrees_with_its_pictures():
    """Where view 0 sees a point of view 1, the two pictures have about the same colour."""
    import torch
    from safetensors.torch import load_file

    from croco3d import demo

    truth = load_file(demo.ROOM / "truth.safetensors")
    pictures = [load_image(path).astype(int) for path in demo_views(2)]
    points, known = demo._true_points(
        truth["depth"][1].float(), truth["intrinsics"][1], torch.eye(3), (384, 512)
    )
    relative = torch.linalg.inv(truth["cam2world"][0]) @ truth["cam2world"][1]
    seen = points @ relative[:3, :3].T + relative[:3, 3]
    pixels = seen @ truth["intrinsics"][0].T
    u, v = (pixels[..., axis] / pixels[..., 2] for axis in (0, 1))
    inside = known & (u > 0) & (u < 511) & (v > 0) & (v < 383) & (seen[..., 2] > 0)
    column, row = u[inside].round().long(), v[inside].round().long()
    depth = truth["depth"][0].float()[(row // 2), (column // 2)]
    agree = ((depth - seen[..., 2][inside]).abs() / depth < 0.02).numpy()
    difference = np.abs(
        pictures[1][inside.numpy()][agree] - pictures[0][row.numpy(), column.numpy()][agree]
    )
    assert agree.mean() > 0.5
    assert np.median(difference) < 12


def test_the_command_offers_what_the_function_does():
    command = inspect.signature(reconstruct_command).parameters
    function = inspect.signature(reconstruct).parameters
    # Per photograph, which needs Python; the terminal decides about the bar.
    assert set(function) - set(command) == {"cameras", "progress"}
    for name in set(function) & set(command):
        assert command[name].default == function[name].default, name


def test_known_focal_and_distance_reach_the_scene(run, weights, tmp_path):
    code, out, err = run(
        "reconstruct", *demo_views(2), "-m", weights, "--json", "--focal", 401.5,
        "--known-distance", 0, 1, 0.5, "--gaussians", tmp_path / "splats.ply",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert [image["focal_px"] for image in summary["images"]] == [401.5, 401.5]
    assert np.linalg.norm(summary["images"][1]["translation"]) == pytest.approx(0.5, abs=1e-3)
    assert summary["unit"].startswith("met")
    assert (tmp_path / "splats.ply").read_bytes().startswith(b"ply")
