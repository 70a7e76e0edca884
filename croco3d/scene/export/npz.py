"""NPZ: everything a scene holds, without loss, readable with numpy alone.

The archive has one array a map and image (`pointmap_0`, `depthmap_0`, `confidence_0`, `image_0`,
and `mask_0` where there is one), `intrinsics` `(N, 3, 3)`, `cam2world` `(N, 4, 4)`, `size` `(N, 2)`
(width, height of the photographs), `pixel_to_original` `(N, 3, 3)`, and `meta`, JSON text.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files import atomic_path
from ..camera import Camera
from ..scene import Scene

FORMAT = "croco3d-scene-1"
_MAPS = {"pointmap": "pointmaps", "depthmap": "depthmaps", "confidence": "confidences",
         "image": "images", "mask": "masks"}  # fmt: skip


def write_npz(scene: Scene, path: str | os.PathLike[str]) -> None:
    """Write a scene as NPZ, uncompressed; `read_npz` gives it back exactly.

    Args:
        scene: The scene.
        path: The `.npz` file.
    """
    arrays = {
        f"{key}_{index}": _array(value)
        for key, name in _MAPS.items()
        for index, value in enumerate(getattr(scene, name))
        if value is not None
    }
    arrays["intrinsics"] = np.stack([_array(c.intrinsics) for c in scene.cameras])
    arrays["cam2world"] = np.stack([_array(c.cam2world) for c in scene.cameras])
    arrays["size"] = np.array([(c.width, c.height) for c in scene.cameras])
    arrays["pixel_to_original"] = np.stack([_array(m) for m in scene.pixel_to_original])
    meta = {"format": FORMAT, "names": scene.names, "paths": scene.paths, "metric": scene.metric,
            "up_axis": scene.up_axis, "info": scene.info}  # fmt: skip
    arrays["meta"] = np.array(json.dumps(meta))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: str | os.PathLike[str]) -> Scene:
    """Read a scene that `write_npz` wrote.

    Args:
        path: The `.npz` file.

    Returns:
        The scene.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a scene, or is damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a scene that croco3d saved as .npz, or is damaged. Save or "
            "copy it again; .glb and .ply files do not hold enough to be read back."
        ) from error
    try:
        return _from_arrays(arrays)
    except KeyError as error:
        raise ValueError(
            f"{os.fspath(path)} is not a scene that croco3d saved as .npz: it has no array {error}."
        ) from error


def _from_arrays(arrays: dict[str, Any]) -> Scene:
    meta = json.loads(arrays["meta"].item())
    if meta["format"] != FORMAT:
        raise ValueError(
            f"The scene's format is {meta['format']!r}, this version reads {FORMAT!r}: "
            "install the version of croco3d that wrote it."
        )
    count = len(arrays["size"])
    cameras = [
        Camera(torch.from_numpy(k), torch.from_numpy(pose), int(width), int(height))
        for k, pose, (width, height) in zip(
            arrays["intrinsics"], arrays["cam2world"], arrays["size"], strict=True
        )
    ]
    maps = {
        name: [torch.from_numpy(arrays[f"{key}_{i}"]) for i in range(count)]
        for key, name in _MAPS.items()
        if key != "mask"
    }
    masks = [
        torch.from_numpy(arrays[f"mask_{i}"]) if f"mask_{i}" in arrays else None
        for i in range(count)
    ]
    return Scene(
        cameras,
        **maps,
        masks=masks,
        pixel_to_original=list(torch.from_numpy(arrays["pixel_to_original"])),
        **{key: meta[key] for key in ("names", "paths", "metric", "up_axis", "info")},
    )


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
