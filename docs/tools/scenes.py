"""Scenes of the bundled room for the pages: the truth, and what the bundled model makes of it."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from croco3d.demo import DEPTH_STRIDE, ROOM, demo_errors
from croco3d.geometry import depth_to_pointmap, invert_pose, transform_points
from croco3d.scene import Camera, Scene, reconstruct

# Points of a scene in a page; more only make the page heavier.
MOST_POINTS = 60_000


def view_count() -> int:
    """How many pictures of the room there are."""
    return len(list(ROOM.glob("view_*.jpg")))


def true_room(count: int) -> Scene:
    """The room as it was built, from its first `count` views; the world is the first camera's."""
    truth = load_file(ROOM / "truth.safetensors")
    to_first = invert_pose(truth["cam2world"][0])
    # Depth is that of every second pixel of every second row.
    stride = torch.diag(torch.tensor([DEPTH_STRIDE, DEPTH_STRIDE, 1.0]))
    scene: dict[str, list] = {"cameras": [], "pointmaps": [], "depthmaps": [], "images": []}
    for index in range(count):
        depth = truth["depth"][index].float()
        height, width = depth.shape
        pose = to_first @ truth["cam2world"][index]
        size = (width * DEPTH_STRIDE, height * DEPTH_STRIDE)
        small = torch.linalg.solve(stride, truth["intrinsics"][index])
        with Image.open(ROOM / f"view_{index}.jpg") as picture:
            seen = np.array(picture.convert("RGB"))[::DEPTH_STRIDE, ::DEPTH_STRIDE].copy()
        scene["cameras"].append(Camera(truth["intrinsics"][index], pose, *size))
        scene["pointmaps"].append(transform_points(pose, depth_to_pointmap(depth, small)))
        scene["depthmaps"].append(depth)
        scene["images"].append(torch.from_numpy(seen))
    return Scene(
        **scene,
        confidences=[torch.ones_like(depth) for depth in scene["depthmaps"]],
        names=[f"view_{index}" for index in range(count)],
        pixel_to_original=[stride] * count,
        metric=True,
    )


def model_room(count: int) -> tuple[Scene, str]:
    """What the bundled model makes of the first `count` views, and its measured errors in words."""
    views = [ROOM / f"view_{i}.jpg" for i in range(count)]
    scene = reconstruct(views, model="croco3d-rooms", progress=False)
    errors = demo_errors(scene)
    words = (
        f"pointmap error {errors.pointmaps:.3f} (looking at no image gives {errors.baseline:.3f}), "
        f"camera rotations within {errors.rotation:.1f} degrees of the truth"
    )
    return scene, words


def data_uri(scene: Scene) -> str:
    """The scene as a GLB inside a `data:` address, so that its page needs no server."""
    pixels = sum(depth.numel() for depth in scene.depthmaps)
    cloud_size = "auto" if pixels <= MOST_POINTS else _voxel(scene)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.glb"
        scene.save(path, voxel_size=cloud_size, remove_edges=True)
        content = path.read_bytes()
    return "data:model/gltf-binary;base64," + base64.b64encode(content).decode()


def _voxel(scene: Scene) -> float:
    """Side of cubes that leave about `MOST_POINTS` points."""
    size = 0.002 * float(torch.cat([d[d > 0] for d in scene.depthmaps]).median())
    while len(scene.fuse(voxel_size=size)) > MOST_POINTS:
        size *= 1.12
    return size
