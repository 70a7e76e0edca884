import math
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from croco3d.scene import Camera, Scene


@pytest.fixture
def scene():
    points = torch.rand(12, 16, 3, generator=torch.Generator().manual_seed(0)) + 1
    camera = Camera(torch.tensor([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]]), torch.eye(4), 16, 12)
    confidences = torch.arange(192.0).view(12, 16)
    return Scene(
        [camera] * 2, [points, points + 0.1], [torch.full((12, 16), 1.5)] * 2, [confidences] * 2
    )


def test_viser_shows_points_cameras_and_reacts(scene):
    viser = pytest.importorskip("viser")
    from croco3d.viewer import fill_viewer

    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        handles = fill_viewer(server, scene)
        whole = len(handles.cloud.points)
        cloud = scene.fuse()
        assert whole == len(cloud)
        handles.confidence.value = 50
        assert len(handles.cloud.points) == math.ceil(whole / 2) == len(handles.cloud.colors)
        best = cloud.points[np.argsort(-cloud.confidences, kind="stable")[: math.ceil(whole / 2)]]
        np.testing.assert_allclose(handles.cloud.points, best, atol=1e-6)
        handles.show_cameras.value = False
        assert [f.visible for f in handles.frusta] == [False, False]
        touching = handles.cloud.point_size
        # Pixels are a twentieth of the depth wide, which is 1.5.
        assert touching == pytest.approx(1.5 / 20)
        handles.point_size.value = handles.point_size.max
        assert handles.cloud.point_size == pytest.approx(5 * touching)
        assert handles.frusta[0].fov == pytest.approx(2 * math.atan(6 / 20))
        page = urllib.request.urlopen(f"http://127.0.0.1:{server.get_port()}", timeout=10)
        assert page.status == 200
    finally:
        server.stop()


def test_rerun_recording_holds_the_points(scene, tmp_path):
    pytest.importorskip("rerun")
    path = tmp_path / "scene.rrd"
    scene.save_rerun(path)
    tool = subprocess.run(
        [sys.executable, "-m", "rerun_cli", "rrd", "print", "-v", str(path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert tool.returncode == 0, tool.stderr
    for name in (
        "/world/camera_0000/image/depth",
        "/world/camera_0001/image/rgb",
        "/world/points_0001",
    ):
        assert name in tool.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["scene.rrd"]
    with pytest.raises(ValueError, match="end .* with .rrd"):
        scene.save_rerun(tmp_path / "scene.glb")


@pytest.mark.parametrize("name", ["viser", "rerun"])
def test_missing_viewers_are_explained(scene, monkeypatch, tmp_path, name):
    from croco3d.viewer import view_scene

    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "croco3d\[viewer\]"'):
        view_scene(scene) if name == "viser" else scene.save_rerun(tmp_path / "a.rrd")
    assert not list(tmp_path.iterdir())


def test_view_command_writes_a_recording(scene, tmp_path):
    pytest.importorskip("rerun")
    import typer

    from croco3d.cli import app as app_command
    from croco3d.cli import view as view_command

    program = typer.Typer()
    view_command.register(program)
    app_command.register(program)
    scene.save(tmp_path / "scene.npz")
    arguments = ["view", str(tmp_path / "scene.npz"), "--rerun", str(tmp_path / "scene.rrd")]
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 0 and (tmp_path / "scene.rrd").stat().st_size > 1000
    result = CliRunner().invoke(program, ["view", str(tmp_path / "missing.npz")])
    assert isinstance(result.exception, FileNotFoundError)
