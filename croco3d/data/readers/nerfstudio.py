"""One's own posed RGB-D frames: nerfstudio's `transforms.json` with depth."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..frames import Frame, PairSource
from ..pairing import choose_pairs
from ..registry import READERS
from .common import OPENGL_TO_OPENCV, camera_matrix, entry_of, require

_DISTORTION = {
    "PINHOLE": (),
    "SIMPLE_PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2", "k3"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
}

_REQUIRED = ("file_path", "transform_matrix")


@READERS.register("nerfstudio")
def nerfstudio(
    root: str | Path,
    pairs: str | Path | None = None,
    depth_scale: float | None = None,
    max_depth: float | None = None,
    max_degrees: float = 60.0,
    neighbours: int = 10,
    name: str | None = None,
) -> PairSource:
    """Read a folder of posed images with depth, as nerfstudio and many phone scanners write it.

    Layout (nerfstudio's documentation, "Data conventions"): `transforms.json` with `fl_x`, `fl_y`,
    `cx`, `cy`, `w`, `h`, `camera_model` and its distortion at the top or per frame, and `frames`
    of `file_path`, `transform_matrix` (camera to world, y up, z backwards), `depth_file_path` and
    perhaps `mask_path`. Frames without depth are left out. The principal point counts from the
    image's corner, as COLMAP's does, and is converted; without one it is the
    middle.

    Licence: that of the capture.

    Args:
        root: The folder, or the JSON file itself.
        pairs: A file written by `croco3d data pair`; None pairs by pose.
        depth_scale: Metres per unit of the depth files; by default `depth_unit_scale_factor` of
            the JSON file, else 0.001, since nerfstudio takes depth to be in millimetres.
        max_depth: Depths beyond are invalid, in metres.
        max_degrees: Largest angle between the optical axes of a pair, without a pairs file.
        neighbours: Partners that a frame chooses, without a pairs file.
        name: What the data set is called; the folder's name by default.
    """
    root = Path(root)
    path = require(root / "transforms.json" if root.is_dir() else root, "nerfstudio's transforms")
    meta = json.loads(path.read_text(encoding="utf-8"))
    scale = depth_scale or meta.get("depth_unit_scale_factor", 1e-3)
    frames = [
        _frame(path.parent, {**meta, **entry}, scale, max_depth)
        for entry in entry_of(meta, "frames", str(path))
        if entry.get("depth_file_path")
    ]
    if not frames:
        raise ValueError(
            f"{path} has {len(meta['frames'])} frames and no depth_file_path; export depth with "
            "the capture, or render it from a mesh or a model."
        )
    title = name or path.resolve().parent.name
    return PairSource(title, frames, choose_pairs(frames, pairs, max_degrees, neighbours))


def _frame(folder: Path, entry: dict[str, Any], scale: float, max_depth: float | None) -> Frame:
    file, pose = (entry_of(entry, key, f"a frame of {folder}") for key in _REQUIRED)
    model = entry.get("camera_model", "OPENCV")
    if model not in _DISTORTION:
        raise ValueError(
            f"{folder}: camera_model {model!r} is not a perspective camera; known are "
            f"{', '.join(_DISTORTION)}."
        )
    focal_x = entry.get("fl_x") or _focal_from_angle(folder, entry)
    if not {"cx", "cy"} <= entry.keys() and not {"w", "h"} <= entry.keys():
        raise ValueError(f"{folder}: transforms.json gives neither cx and cy nor w and h.")
    centre_x, centre_y = (entry.get(c, entry.get(s, 0) / 2) for c, s in (("cx", "w"), ("cy", "h")))
    intrinsics = camera_matrix(focal_x, entry.get("fl_y", focal_x), centre_x - 0.5, centre_y - 0.5)
    lens = np.array([entry.get(key, 0.0) for key in _DISTORTION[model]])
    if model in ("SIMPLE_RADIAL", "RADIAL"):
        lens = np.pad(lens, (0, 4 - len(lens)))  # OpenCV wants at least four
    mask = entry.get("mask_path")
    return Frame(
        image=folder / file,
        depth=folder / entry["depth_file_path"],
        intrinsics=intrinsics,
        cam2world=np.array(pose, dtype=np.float64) @ OPENGL_TO_OPENCV,
        name=file,
        depth_scale=scale,
        mask=folder / mask if mask else None,
        distortion=lens if lens.any() else None,
        fisheye=model == "OPENCV_FISHEYE",
        size=(int(entry["w"]), int(entry["h"])) if "w" in entry and "h" in entry else None,
        max_depth=max_depth,
    )


def _focal_from_angle(folder: Path, entry: dict[str, Any]) -> float:
    if "camera_angle_x" not in entry or "w" not in entry:
        raise ValueError(f"{folder}: transforms.json gives neither fl_x nor camera_angle_x and w.")
    return float(entry["w"] / 2 / np.tan(entry["camera_angle_x"] / 2))
