"""Pairs rendered with Habitat-Sim, as published for CroCo and DUSt3R's training."""

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

from ..frames import Frame, PairSource
from ..registry import READERS
from .common import first_existing, require, rigid

_SUFFIX = "_camera_params.json"


@READERS.register("habitat")
def habitat(root: str | Path, max_views: int = 2, max_depth: float | None = None) -> PairSource:
    """Read views rendered in groups of the same place; views of a group pair up.

    Layout: anywhere below the root, `<group>_<view>.jpeg` (or `.jpg`, `.png`),
    `<group>_<view>_depth.exr` (or `.npy`, `.png` in millimetres; metres along the optical axis) and
    `<group>_<view>_camera_params.json` with `camera_intrinsics` (3x3), `R_cam2world` and
    `t_cam2world` (OpenCV's axes). EXR needs the package OpenEXR.

    Licence: that of the scenes rendered (HM3D, Gibson, Replica, ScanNet, ...); most forbid
    commercial use.

    Args:
        root: The folder.
        max_views: Views of a group to use, in their order; with more than two all pairs of them.
        max_depth: Depths beyond are invalid, in metres.
    """
    root = Path(root)
    groups: dict[Path, list[Path]] = defaultdict(list)
    for camera in sorted(require(root, "Habitat pairs").rglob(f"*{_SUFFIX}")):
        stem = camera.name.removesuffix(_SUFFIX)
        groups[camera.parent / stem.rpartition("_")[0]].append(camera.parent / stem)
    frames: list[Frame] = []
    pairs = []
    for views in groups.values():
        start = len(frames)
        frames += [_frame(root, view, max_depth) for view in views[:max_views]]
        pairs += combinations(range(start, len(frames)), 2)
    return PairSource("habitat", frames, np.array(pairs, dtype=np.int64))


def _frame(root: Path, view: Path, max_depth: float | None) -> Frame:
    camera = json.loads(Path(f"{view}{_SUFFIX}").read_text(encoding="utf-8"))
    # A missing file is reported when the frame is read, under the name it should have.
    images = [Path(f"{view}{suffix}") for suffix in (".jpeg", ".jpg", ".png")]
    depths = [Path(f"{view}_depth{suffix}") for suffix in (".exr", ".npy", ".png")]
    depth = first_existing(depths) or depths[0]
    return Frame(
        image=first_existing(images) or images[0],
        depth=depth,
        intrinsics=np.array(camera["camera_intrinsics"], dtype=np.float64),
        cam2world=rigid(
            np.array(camera["R_cam2world"], dtype=np.float64),
            np.array(camera["t_cam2world"], dtype=np.float64).reshape(3),
        ),
        name=str(view.relative_to(root)),
        depth_scale=1e-3 if depth.suffix == ".png" else 1.0,
        max_depth=max_depth,
    )
