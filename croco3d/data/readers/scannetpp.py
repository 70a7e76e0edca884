"""ScanNet++: rooms with laser scans, a camera's and a phone's pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PairSource
from ..registry import READERS
from .colmap import colmap_frame, pairs_of_model
from .colmap_model import read_colmap
from .common import Scene, entry_of, join_scenes, require, subfolders

_DEVICES = {
    "dslr": ("resized_images", "resized_anon_masks"),
    "iphone": ("rgb", "rgb_masks"),
}


@READERS.register("scannetpp")
def scannetpp(
    root: str | Path,
    scenes: Sequence[str] | None = None,
    split_file: str | Path | None = None,
    device: Literal["dslr", "iphone"] = "dslr",
    depths: str = "render_depth",
    masks: bool = True,
    pairs: str | None = None,
    min_shared: float = 0.1,
    max_shared: float = 0.8,
) -> PairSource:
    """Read ScanNet++ with depth rendered by the authors' toolkit.

    Download: kaldir.vc.in.tum.de/scannetpp (after accepting the terms); then render depth with the
    toolkit (github.com/scannetpp/scannetpp, `python -m common.render`) and, for the phone, extract
    its frames (`python -m iphone.prepare_iphone_data`). Layout (its README and
    `scene_release.py`): `data/<scene>/dslr/` with `resized_images`, `resized_anon_masks`, `colmap`
    and `render_depth` (16 bit, millimetres, on the distorted image), and `data/<scene>/iphone/`
    with `rgb`, `rgb_masks`, `colmap`, `render_depth` and the sensor's `depth`. The fisheye of the
    camera is undone when loading.

    Licence: ScanNet++'s terms of use, for non-commercial research; read them before training.

    Args:
        root: The folder that holds `data`.
        scenes: Which ones; None for all that are there.
        split_file: A file with a scene a line, as `splits/nvs_sem_train.txt`.
        device: Whose pictures.
        depths: The folder of depth maps below the device's, `render_depth` or `depth`.
        masks: Whether to leave out what was made anonymous.
        pairs: Name of a file in each device's folder, written by `croco3d data pair`; None pairs
            images that share enough reconstructed points, or by pose if the model has none.
        min_shared: Shared points over those of the image with fewer, at least.
        max_shared: The same, at most.
    """
    images, mask_folder = entry_of(_DEVICES, device, "ScanNet++")
    if split_file is not None:
        scenes = Path(split_file).read_text(encoding="utf-8").split()
    folders = subfolders(Path(root) / "data", scenes, "ScanNet++ scenes")

    def read(folder: Path) -> Scene | None:
        base = folder / device
        if scenes is None and not (base / depths).is_dir():
            return None
        require(base / depths, "depth rendered by ScanNet++'s toolkit")
        frames, points = _frames(base, images, depths, mask_folder if masks else None)
        if not frames:
            return [], np.zeros((0, 2), dtype=np.int64)
        file = base / pairs if pairs is not None else None
        return frames, pairs_of_model(frames, points, file, min_shared, max_shared)

    return join_scenes("scannetpp", folders, read)


def _frames(
    base: Path, images: str, depths: str, masks: str | None
) -> tuple[list[Frame], list[NDArray[np.int64]]]:
    """Give a device's frames with depth, and the reconstructed points that each sees."""
    cameras, records = read_colmap(base / "colmap")
    frames, points = [], []
    for record in records:
        # Names may begin with a folder ("video/frame_000000.jpg").
        file = Path(record.name).name
        depth = (base / depths / file).with_suffix(".png")
        mask = (base / masks / file).with_suffix(".png") if masks else None
        if depth.is_file():
            frame = colmap_frame(
                record,
                cameras[record.camera_id],
                base / images / file,
                depth,
                name=f"{base.parent.name}/{base.name}/{file}",
                mask=mask if mask and mask.is_file() else None,
            )
            frames.append(frame)
            points.append(record.point_ids)
    return frames, points
