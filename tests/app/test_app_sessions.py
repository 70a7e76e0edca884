import weakref
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from croco3d.app import KeptModel, Limits, Sessions
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.scene import Camera, Scene, load_model


def plane_scene(paths, model="m", graph="complete"):
    """A stand-in for the reconstruction: a plane at depth 2 for every photograph."""
    scene = []
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            width, height = image.size
            pixels = torch.tensor(np.asarray(image.convert("RGB")).copy())
        focal = 1.2 * width
        intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        pose = torch.eye(4)
        pose[0, 3] = 0.1 * index
        v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        rays = torch.stack(
            [(u - width / 2) / focal, (v - height / 2) / focal, torch.ones(u.shape)], -1
        )
        scene.append((Camera(intrinsics, pose, width, height), rays * 2 + pose[:3, 3],
                      torch.full(u.shape, 2.0), u + 1.0, pixels))  # fmt: skip
    names = [Path(p).name for p in paths]
    return Scene(*map(list, zip(*scene, strict=True)), names=names, paths=[str(p) for p in paths],
                 info={"model": model, "graph": graph})  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "uploads").mkdir()
    paths = []
    for index in range(3):
        path = tmp_path / "uploads" / f"{index}.jpg"
        pixels = np.random.default_rng(index).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return paths


@pytest.fixture
def sessions(tmp_path):
    (tmp_path / "root").mkdir()
    return Sessions(plane_scene, root=tmp_path / "root")


def test_a_visitor_gets_scene_and_downloads(sessions, photographs, monkeypatch):
    scene = sessions.make_scene("a", photographs, "some/model", "swin-3")
    assert scene.info == {"model": "some/model", "graph": "swin-3"}
    assert all(Path(p).is_relative_to(sessions.root) for p in scene.paths)
    every = trimesh.load(sessions.show("a", 0, False), process=False).geometry["surface"]
    assert len(every.faces) == 2 * 3 * 24 * 32
    path = sessions.show("a", 50, False)
    fewer = trimesh.load(path, process=False).geometry["surface"]
    assert len(fewer.faces) < 0.8 * len(every.faces)
    monkeypatch.setattr("croco3d.app.sessions.SPLATS", 100)
    assert len(trimesh.load(sessions.show("a", 0, False)).geometry["points"].vertices) > 500
    assert len(trimesh.load(sessions.show("a", 0, True)).geometry["surface"].faces) > 1000
    cloud, archive = sessions.downloads("a", 0)
    assert len(trimesh.load(cloud).vertices) > 500
    names = set(zipfile.ZipFile(archive).namelist())
    assert {"sparse/0/cameras.bin", "images/0.jpg", "images/2.jpg"} <= names
    assert zipfile.ZipFile(archive).read("images/1.jpg") == Path(photographs[1]).read_bytes()


def test_visitors_are_private_and_leave_nothing(sessions, photographs):
    sessions.make_scene("a", photographs, "m", "complete")
    sessions.make_scene("b", photographs[:2], "m", "complete")
    with pytest.raises(ValueError, match="no scene yet"):
        sessions.show("c", 0, False)
    assert sessions.get("a").folder != sessions.get("b").folder
    folder = sessions.get("a").folder
    assert folder.stat().st_mode & 0o077 == 0
    sessions.close("a")
    assert not folder.exists() and sessions.get("b").folder.exists()
    with pytest.raises(ValueError, match="no scene yet"):
        sessions.downloads("a", 0)
    sessions.close_all()
    assert not sessions.root.exists()


def test_a_second_scene_replaces_the_first(sessions, photographs):
    sessions.make_scene("a", photographs, "m", "complete")
    sessions.show("a", 0, False)
    sessions.make_scene("a", photographs[:2], "m", "complete")
    kept = [p.name for p in (sessions.get("a").folder / "photographs").rglob("*.jpg")]
    assert sorted(kept) == ["0.jpg", "1.jpg"]


def test_default_folder_is_private():
    sessions = Sessions(plane_scene)
    assert sessions.root.stat().st_mode & 0o077 == 0
    sessions.close_all()
    assert not sessions.root.exists()


@pytest.mark.parametrize(
    ("limits", "count", "message"),
    [
        (Limits(), 1, "at least two photographs"),
        (Limits(photographs=2), 3, "3 photographs are too many; this app takes 2"),
        (Limits(file_megabytes=0), 2, "0.jpg has 0 MB; this app takes 0 MB"),
        (Limits(total_megabytes=0), 2, "together"),
        (Limits(megapixels=0), 2, "0.jpg has more than the 0 megapixels"),
    ],
)
def test_uploads_are_limited(photographs, tmp_path, limits, count, message):
    sessions = Sessions(plane_scene, limits, root=tmp_path)
    with pytest.raises(ValueError, match=message):
        sessions.make_scene("a", photographs[:count], "m", "complete")


def test_missing_gradio_is_explained(monkeypatch):
    import sys

    from croco3d.app import launch

    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "croco3d.app.interface", raising=False)
    with pytest.raises(ImportError, match=r'pip install "croco3d\[app\]"'):
        launch(plane_scene, port=None, block=False)


class Loader:
    """Counts loads, and tells whether the network loaded before had gone."""

    def __init__(self):
        self.asked, self.alive = [], []
        self.last = lambda: None

    def __call__(self, model, device, dtype):
        if model == "broken":
            raise ValueError("broken is no model.")
        self.asked.append((model, device, dtype))
        self.alive.append(self.last() is not None)
        torch.manual_seed(0)
        network = tiny_network()
        self.last = weakref.ref(network)
        return replace(load_model(network, device, dtype), borrowed=False)


def tiny_network():
    parts = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", **parts},
        decoder_config={"model_type": "croco3d_pair_decoder", **parts},
        head_config={"model_type": "croco3d_linear_head"},
        image_size=32,
    )
    return Dust3rForStereo(config).eval()


def test_one_model_is_kept_between_scenes(photographs):
    loader = Loader()
    make = KeptModel(device="cpu", load=loader)
    first = make(photographs[:2], model="a")
    again = make(photographs[:2], model="a")
    assert loader.asked == [("a", "cpu", None)]
    assert all(map(torch.equal, first.pointmaps, again.pointmaps))
    make(photographs[:2], model="b")
    make(photographs[:2], model="b", dtype="bfloat16")
    make(photographs[:2], model="a", graph="oneref-0")
    assert loader.asked[1:] == [("b", "cpu", None), ("b", "cpu", "bfloat16"), ("a", "cpu", None)]
    assert loader.alive == [False] * 4
    with pytest.raises(ValueError, match="broken is no model"):
        make(photographs[:2], model="broken")
    with pytest.raises(ValueError, match="at least two"):
        make(photographs[:1], model="a")
    make(photographs[:2], model="a")
    assert len(loader.asked) == 5
