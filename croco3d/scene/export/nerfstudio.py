"""nerfstudio's transforms.json, with depth maps and a cloud to start from.

Cameras have OpenGL axes there (x right, y up, z backward) and pixel centres at +0.5. The world
stays ours: nerfstudio turns and scales it itself. Depth is along z, in millimetres, nerfstudio's
default unit (`depth_unit_scale_factor` 0.001).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...files import atomic_folder
from ..fusion import fuse, valid_masks
from ..scene import Scene
from .photographs import depth_in_photograph, file_names, write_photographs
from .ply import write_ply

_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_MILLIMETRES = 1000.0
DepthFormat = Literal["auto", "png", "npy"]


def write_nerfstudio(
    scene: Scene,
    folder: str | os.PathLike[str],
    *,
    min_confidence: float = 0.0,
    depth_format: DepthFormat = "auto",
    copy_images: bool = True,
) -> None:
    """Write `transforms.json`, `images/`, `depths/` and `points3D.ply`.

    Args:
        scene: The scene.
        folder: The project. What `depths` held before is replaced, other files stay.
        min_confidence: Percentile of confidence, see `Scene.mask`; depth is 0 below.
        depth_format: "png" (16 bits, whole millimetres), "npy" (float32, millimetres), or "auto",
            which takes png where its rounding stays under 0.1 % and its range suffices.
        copy_images: Write the photographs too.

    Raises:
        ValueError: If the depth format is unknown, or depths do not fit into it.
    """
    if depth_format not in ("auto", "png", "npy"):
        raise ValueError(f"Unknown depth format {depth_format!r}; choose 'auto', 'png' or 'npy'.")
    masks = valid_masks(scene, min_confidence, remove_edges=True)
    suffix = _depth_suffix(scene, masks, depth_format)
    names = file_names(scene)
    depth_names = [f"{index:05d}_{Path(name).stem}{suffix}" for index, name in enumerate(names)]
    with atomic_folder(folder, owned=["depths"]) as temporary:
        (temporary / "images").mkdir()
        (temporary / "depths").mkdir()
        if copy_images:
            write_photographs(scene, temporary / "images")
        for index, name in enumerate(depth_names):
            depth = depth_in_photograph(scene, index, masks[index]) * np.float32(_MILLIMETRES)
            _write_depth(depth, temporary / "depths" / name)
        write_ply(fuse(scene, min_confidence=min_confidence), temporary / "points3D.ply")
        frames = [
            _frame(scene, index) | {"file_path": f"images/{name}", "depth_file_path": f"depths/{d}"}
            for index, (name, d) in enumerate(zip(names, depth_names, strict=True))
        ]
        document = {
            "camera_model": "PINHOLE",
            "ply_file_path": "points3D.ply",
            "applied_transform": np.eye(4)[:3].tolist(),
            "frames": frames,
        }
        (temporary / "transforms.json").write_text(json.dumps(document, indent=2) + "\n")


def _frame(scene: Scene, index: int) -> dict[str, Any]:
    camera = scene.cameras[index]
    k = camera.intrinsics.double().cpu().numpy()
    return {
        "w": camera.width,
        "h": camera.height,
        "fl_x": k[0, 0],
        "fl_y": k[1, 1],
        "cx": k[0, 2] + 0.5,
        "cy": k[1, 2] + 0.5,
        "transform_matrix": (camera.cam2world.double().cpu().numpy() @ _TO_OPENGL).tolist(),
    }


def _depth_suffix(scene: Scene, masks: list[Tensor], depth_format: DepthFormat) -> str:
    used = torch.cat([d[m] for d, m in zip(scene.depthmaps, masks, strict=True)])
    nearest, farthest = (float(used.min()), float(used.max())) if len(used) else (1.0, 1.0)
    fits = farthest * _MILLIMETRES < 65535.5
    if depth_format == "png" and not fits:
        raise ValueError(
            f"A depth of {farthest:.4g} does not fit into 16-bit millimetres: "
            "rescale the scene or use depth_format='npy'."
        )
    if depth_format == "auto":
        return ".png" if fits and nearest * _MILLIMETRES >= 500 else ".npy"
    return f".{depth_format}"


def _write_depth(millimetres: NDArray, path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, millimetres)
    elif not cv2.imwrite(str(path), np.rint(millimetres).astype(np.uint16)):
        raise OSError(f"Could not write {path}.")
