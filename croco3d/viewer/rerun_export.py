"""Recordings for the Rerun viewer."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import torch

from ..files import atomic_path
from ..scene import Scene
from ..scene.fusion import valid_masks

_UP = {"-y": "RDF", "y": "RUB", "z": "RFU", "-z": "RBD"}


def write_rerun(scene: Scene, path: str | os.PathLike[str], *, min_confidence: float = 0.0) -> None:
    """Write a scene as a Rerun recording: points, cameras, images and depth maps.

    Images and depth maps have the network's size, and their cameras its intrinsics. Rerun, like
    COLMAP, puts pixel centres at +0.5.

    Args:
        scene: The scene.
        path: The `.rrd` file.
        min_confidence: Percentile of confidence, see `Scene.mask`.

    Raises:
        ImportError: If the Rerun SDK is not installed.
        ValueError: If `path` does not end with `.rrd`.
    """
    if not os.fspath(path).lower().endswith(".rrd"):
        raise ValueError(f"Rerun opens .rrd files: end {os.fspath(path)!r} with .rrd.")
    rr = _rerun()
    recording = rr.RecordingStream("croco3d")
    masks = valid_masks(scene, min_confidence, remove_edges=True)
    with atomic_path(path) as temporary:
        recording.save(str(temporary))
        recording.log("world", getattr(rr.ViewCoordinates, _UP[scene.up_axis]), static=True)
        for index in range(len(scene)):
            _log_image(rr, recording, scene, index, masks[index])
        recording.flush()
        recording.disconnect()


def _rerun() -> Any:
    try:
        return import_module("rerun")
    except ImportError as error:
        raise ImportError(
            f'Rerun recordings need its SDK: pip install "croco3d[viewer]" ({error}).'
        ) from error


def _log_image(rr: Any, recording: Any, scene: Scene, index: int, mask: torch.Tensor) -> None:
    name = f"world/camera_{index:04d}"
    pose = scene.cameras[index].cam2world.double().numpy()
    intrinsics = scene.network_intrinsics(index).double().numpy()
    intrinsics[:2, 2] += 0.5
    height, width = mask.shape
    depth = torch.where(mask, scene.depthmaps[index].float(), 0.0).numpy()
    recording.log(name, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]), static=True)
    pinhole = rr.Pinhole(
        image_from_camera=intrinsics, resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF
    )
    recording.log(f"{name}/image", pinhole, static=True)
    recording.log(f"{name}/image/rgb", rr.Image(scene.images[index].numpy()), static=True)
    recording.log(f"{name}/image/depth", rr.DepthImage(depth, meter=1.0), static=True)
    points = rr.Points3D(
        scene.pointmaps[index][mask].float().numpy(), colors=scene.images[index][mask].numpy()
    )
    recording.log(f"world/points_{index:04d}", points, static=True)
