"""Common Objects in 3D, version 2."""

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..frames import Frame, PairSource
from ..loading import load_mask
from ..pairing import pairs_by_pose
from ..registry import READERS
from .common import (
    Scene,
    camera_matrix,
    entry_of,
    inverse_rigid,
    join_scenes,
    require,
    rigid,
    subfolders,
)


@READERS.register("co3d")
def co3d(
    root: str | Path,
    categories: Sequence[str] | None = None,
    subset: str | None = None,
    split: str = "train",
    foreground: bool = False,
    max_degrees: float = 90.0,
    neighbours: int = 10,
) -> PairSource:
    """Read CO3Dv2 as downloaded; frames of the same sequence pair up by viewing direction.

    Download: github.com/facebookresearch/co3d, `download_dataset.py` (all, or
    `--single_sequence_subset`). Layout (its README and `data_types.py`): per category
    `frame_annotations.jgz`, `set_lists/set_lists_<subset>.json`, and per sequence `images`,
    `depths`, `depth_masks`, `masks`. Depth PNGs hold the bits of half-precision floats. Cameras
    are PyTorch3D's (x left, y up, row vectors) in normalised coordinates; both formats of
    intrinsics are converted. Scale is that of each reconstruction, not metric.

    Licence: CC BY-NC 4.0 (data); read the terms before training.

    Args:
        root: The folder of categories.
        categories: Which ones; None for all that are there.
        subset: A set list, as `fewview_dev`; None takes every annotated frame.
        split: Which part of the set list.
        foreground: Whether only the object's depth counts, and not the background's.
        max_degrees: Largest angle between the optical axes of a pair.
        neighbours: Partners that a frame chooses.
    """
    root = Path(root)
    folders = [
        folder
        for folder in subfolders(root, categories, "CO3D categories")
        if categories is not None or (folder / "frame_annotations.jgz").is_file()
    ]

    sequences = [entries for folder in folders for entries in _sequences(folder, subset, split)]

    def read(entries: list[dict[str, Any]]) -> Scene:
        frames = [_frame(root, entry, foreground) for entry in entries]
        poses = np.stack([frame.cam2world for frame in frames])
        return frames, pairs_by_pose(poses, max_degrees, neighbours)

    return join_scenes("co3d", sequences, read)


def _sequences(folder: Path, subset: str | None, split: str) -> list[list[dict[str, Any]]]:
    """Give the annotated frames with a camera and depth, by sequence."""
    path = require(folder / "frame_annotations.jgz", "CO3Dv2's frame annotations")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        entries = json.load(file)
    if subset is not None:
        lists = require(folder / "set_lists" / f"set_lists_{subset}.json", "a set list of CO3Dv2")
        content = json.loads(lists.read_text(encoding="utf-8"))
        chosen = {(line[0], line[1]) for line in entry_of(content, split, str(lists))}
        entries = [e for e in entries if (e["sequence_name"], e["frame_number"]) in chosen]
    sequences = defaultdict(list)
    for entry in entries:
        if entry.get("viewpoint") and entry.get("depth"):
            sequences[entry["sequence_name"]].append(entry)
    return list(sequences.values())


def _frame(root: Path, entry: dict[str, Any], foreground: bool) -> Frame:
    view, depth = entry["viewpoint"], entry["depth"]
    height, width = entry["image"]["size"]
    masks = [root / depth["mask_path"]] if depth.get("mask_path") else []
    if foreground and entry.get("mask"):
        masks.append(root / entry["mask"]["path"])
    # X_cam = X_world R + T with x to the left and y up: transpose, then turn two axes.
    world2cam = rigid(np.array(view["R"]).T, np.array(view["T"]))
    cam2world = inverse_rigid(np.diag([-1.0, -1.0, 1.0, 1.0]) @ world2cam)
    return Frame(
        image=root / entry["image"]["path"],
        depth=partial(read_half_depth, root / depth["path"]),
        intrinsics=_intrinsics(view, width, height),
        cam2world=cam2world,
        name=entry["image"]["path"],
        depth_scale=depth["scale_adjustment"],
        mask=partial(_all_masks, tuple(masks)) if masks else None,
        size=(width, height),
    )


def _intrinsics(view: dict[str, Any], width: int, height: int) -> NDArray[np.float64]:
    kind = view.get("intrinsics_format", "ndc_norm_image_bounds")
    if kind == "ndc_isotropic":
        half = np.full(2, min(width, height) / 2)
    elif kind == "ndc_norm_image_bounds":
        half = np.array([width, height]) / 2
    else:
        raise ValueError(f"CO3D's intrinsics format {kind!r} is not known.")
    focal = np.array(view["focal_length"]) * half
    # Normalised coordinates grow to the left and up from the middle of the image.
    centre = np.array([width, height]) / 2 - np.array(view["principal_point"]) * half - 0.5
    return camera_matrix(*focal, *centre)


def read_half_depth(path: Path) -> NDArray[np.float32]:
    """Read a 16-bit PNG whose bits are half-precision floats."""
    with Image.open(path) as image:
        bits = np.array(image).astype(np.uint16)
    return bits.view(np.float16).astype(np.float32)


def _all_masks(paths: tuple[Path, ...]) -> NDArray[np.bool_]:
    return np.logical_and.reduce([load_mask(path) for path in paths])
