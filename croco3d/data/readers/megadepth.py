"""MegaDepth: tourist photographs with multi-view stereo depth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..frames import Frame, PairSource
from ..pairing import pairs_by_shared_points
from ..registry import READERS
from .colmap import colmap_frame
from .colmap_model import ColmapCamera, read_colmap
from .common import Scene, join_scenes, require

_DENSE = "phoenix/S6/zl548/MegaDepth_v1"

# The authors mark photographs with only an ordinal (foreground, background) map by tiny files.
_SMALLEST_DEPTH_FILE = 100 * 1024


@READERS.register("megadepth")
def megadepth(
    root: str | Path,
    scenes: Sequence[str] | None = None,
    min_shared: float = 0.15,
    max_shared: float = 0.7,
    smallest_file: int = _SMALLEST_DEPTH_FILE,
) -> PairSource:
    """Read MegaDepth v1; photographs that share enough reconstructed points pair up.

    Download: the MegaDepth v1 dataset and SfM models (cs.cornell.edu/projects/megadepth). Layout:
    `phoenix/S6/zl548/MegaDepth_v1/<scene>/dense<k>/imgs` and `depths/*.h5` (data set `depth`), and
    the models in `MegaDepth_v1_SfM/<scene>/sparse/manhattan/<k>`. Those models describe the photos
    before undistortion, so their cameras fit `imgs` only as well as D2-Net's and others' use of
    them does: focal lengths are scaled to the size and distortion is taken as undone. If
    `Undistorted_SfM/<scene>` exists (D2-Net's `undistort_reconstructions.py`, with `images` and
    `sparse-txt`), its exact cameras and images are used for `dense0`. Needs h5py. Negative values
    of ordinal maps are invalid; scale is that of each reconstruction.

    Licence: CC BY 4.0 (depth and models); the photographs keep their own.

    Args:
        root: The folder that holds `phoenix` and `MegaDepth_v1_SfM`.
        scenes: Names as `0000`, or `0000/1` for one model; None for all that are there.
        min_shared: Shared points over those of the photo with fewer, at least.
        max_shared: The same, at most.
        smallest_file: Depth files of fewer bytes hold no depth, only an ordinal map.
    """
    root = Path(root)
    dense = require(root / _DENSE, "MegaDepth's images and depths")
    folders = [
        folder
        for folder in sorted(dense.glob("*/dense*"))
        if scenes is None
        or folder.parent.name in scenes
        or f"{folder.parent.name}/{folder.name.removeprefix('dense')}" in scenes
    ]
    if not folders:
        raise FileNotFoundError(f"{dense} holds none of the scenes {scenes or 'at all'}.")

    def read(folder: Path) -> Scene:
        model, images, undistorted = _model(root, folder)
        cameras, records = read_colmap(model)
        frames: list[Frame] = []
        points = []
        for record in records:
            depth = (folder / "depths" / record.name).with_suffix(".h5")
            if not depth.is_file() or depth.stat().st_size < smallest_file:
                continue
            camera = cameras[record.camera_id]
            name = f"{folder.parent.name}/{folder.name}/{record.name}"
            straight = camera if undistorted else _without_lens(camera)
            frames.append(colmap_frame(record, straight, images / record.name, depth, name=name))
            points.append(record.point_ids)
        return frames, pairs_by_shared_points(points, min_shared, max_shared)

    return join_scenes("megadepth", folders, read)


def _model(root: Path, folder: Path) -> tuple[Path, Path, bool]:
    scene, number = folder.parent.name, folder.name.removeprefix("dense")
    exact = root / "Undistorted_SfM" / scene
    if number == "0" and (exact / "sparse-txt").is_dir():
        return exact / "sparse-txt", exact / "images", True
    return root / "MegaDepth_v1_SfM" / scene / "sparse/manhattan" / number, folder / "imgs", False


def _without_lens(camera: ColmapCamera) -> ColmapCamera:
    return ColmapCamera(camera.size, np.array(camera.intrinsics), None, False)
