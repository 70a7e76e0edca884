"""COLMAP's binary sparse model.

COLMAP puts pixel centres at +0.5, so that principal points and observations move by half a pixel.
Poses are world to camera; axes are OpenCV's, as ours. The layout of the files is that of COLMAP's
documentation, "Output format".
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...files import atomic_folder
from ..camera import Camera
from ..scene import Scene
from ..tracks import Tracks, build_tracks
from .photographs import file_names, write_photographs
from .ply import write_ply

_PINHOLE = 1
_CENTER = 0.5


def write_colmap(
    scene: Scene,
    folder: str | os.PathLike[str],
    *,
    min_confidence: float = 0.0,
    max_points: int = 200_000,
    copy_images: bool = True,
) -> None:
    """Write a COLMAP project: `sparse/0/{cameras,images,points3D}.bin` and `images/`.

    Each image has a PINHOLE camera of its photograph's resolution; images with equal intrinsics
    share one. A point's error is how far the images that see it disagree about it, in pixels.
    gsplat, nerfstudio and the original Gaussian splatting train on this folder as it is;
    the last also reads the points from `sparse/0/points3D.ply`.

    Args:
        scene: The scene.
        folder: The project. What `sparse/0` held before is replaced, other files stay.
        min_confidence: Percentile of confidence, see `Scene.mask`.
        max_points: About how many points to write at most.
        copy_images: Write the photographs too.

    Raises:
        ValueError: If intrinsics have a skew, which COLMAP's cameras have not.
    """
    tracks = build_tracks(scene, min_confidence=min_confidence, max_points=max_points)
    with atomic_folder(folder, owned=["sparse/0"]) as temporary:
        model = temporary / "sparse" / "0"
        model.mkdir(parents=True)
        camera_ids = _write_cameras(scene.cameras, model / "cameras.bin")
        # Observations are stored image by image; a track refers to them by their rank there.
        order = np.argsort(tracks.images, kind="stable")
        first = np.searchsorted(tracks.images[order], np.arange(len(scene) + 1))
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order)) - first[tracks.images[order]]
        _write_images(scene, tracks, [order[a:b] for a, b in zip(first, first[1:], strict=False)],
                      camera_ids, model / "images.bin")  # fmt: skip
        _write_points(tracks, ranks, model / "points3D.bin")
        write_ply(tracks.cloud(), model / "points3D.ply")
        if copy_images:
            (temporary / "images").mkdir()
            write_photographs(scene, temporary / "images")


def _parameters(camera: Camera) -> tuple[float, ...]:
    k = camera.intrinsics.double().cpu().numpy()
    if abs(k[0, 1]) > 1e-6 * k[0, 0]:
        raise ValueError(f"COLMAP's pinhole camera has no skew, but the intrinsics have {k[0, 1]}.")
    return (k[0, 0], k[1, 1], k[0, 2] + _CENTER, k[1, 2] + _CENTER)


def _write_cameras(cameras: list[Camera], path: Path) -> list[int]:
    """Write distinct cameras; return each image's camera id, from 1."""
    ids: dict[tuple[float, ...], int] = {}
    keys = [(c.width, c.height, *_parameters(c)) for c in cameras]
    for key in keys:
        ids.setdefault(key, len(ids) + 1)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(ids)))
        for key, number in ids.items():
            file.write(struct.pack("<IiQQ4d", number, _PINHOLE, *key))
    return [ids[key] for key in keys]


def _write_images(
    scene: Scene,
    tracks: Tracks,
    observations: list[NDArray[np.int64]],
    camera_ids: list[int],
    path: Path,
) -> None:
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(scene)))
        for index, name in enumerate(file_names(scene)):
            pose = np.linalg.inv(scene.cameras[index].cam2world.double().cpu().numpy())
            x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
            file.write(struct.pack("<I7dI", index + 1, w, x, y, z, *pose[:3, 3], camera_ids[index]))
            file.write(name.encode() + b"\0")
            mine = observations[index]
            rows = np.empty(len(mine), [("pixel", "<f8", (2,)), ("point", "<u8")])
            rows["pixel"], rows["point"] = tracks.pixels[mine] + _CENTER, tracks.ids[mine] + 1
            file.write(struct.pack("<Q", len(mine)) + rows.tobytes())


def _write_points(tracks: Tracks, ranks: NDArray[np.int64], path: Path) -> None:
    order = np.argsort(tracks.ids, kind="stable")
    elements = np.stack([tracks.images[order] + 1, ranks[order]], axis=1).astype("<u4")
    bounds = np.searchsorted(tracks.ids[order], np.arange(len(tracks.points) + 1))
    errors = np.bincount(tracks.ids, weights=tracks.errors) / np.bincount(tracks.ids)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(tracks.points)))
        for number, (point, color) in enumerate(zip(tracks.points, tracks.colors, strict=True)):
            start, stop = bounds[number], bounds[number + 1]
            file.write(
                struct.pack("<Q3d3BdQ", number + 1, *point, *color, errors[number], stop - start)
            )
            file.write(elements[start:stop].tobytes())
