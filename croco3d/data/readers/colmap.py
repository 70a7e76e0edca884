"""COLMAP reconstructions with depth maps."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PairSource
from ..pairing import Pairs, choose_pairs, load_pairs, pairs_by_shared_points
from ..registry import READERS
from .colmap_model import ColmapCamera, ColmapImage, read_colmap
from .common import first_existing, require

_DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".pfm", ".h5", ".tif", ".tiff")


@READERS.register("colmap")
def colmap(
    root: str | Path,
    sparse: str | None = None,
    images: str = "images",
    depths: str | None = None,
    depth_scale: float | None = None,
    pairs: str | Path | None = None,
    min_shared: float = 0.1,
    max_shared: float = 0.8,
    max_depth: float | None = None,
    name: str | None = None,
) -> PairSource:
    """Read a COLMAP model with depth maps, its own dense ones or any others.

    Layout: `images/`; the model (`cameras`, `images`, binary or text) in `sparse/0`, `sparse` or
    the root; depth in `stereo/depth_maps/<image>.geometric.bin` (a dense workspace, where `root`
    is what `colmap image_undistorter` wrote), or in `depths/` or `depth/` under the image's name
    with the suffix of any format that `load_depth` knows. Lens distortion is undone when loading;
    depth must then be drawn on the distorted image.

    Licence: that of the photographs.

    Args:
        root: The workspace.
        sparse: The model's folder below `root`, if it is none of the usual ones.
        images: The images' folder below `root`.
        depths: The depth maps' folder below `root`, if it is none of the usual ones.
        depth_scale: Model units per unit of the depth files; by default 0.001 for integer formats
            (`.png`, `.tif`) and 1 for the others. Depth and poses must be in the same units.
        pairs: A file written by `croco3d data pair`; None pairs by shared points.
        min_shared: Shared points over those of the image with fewer, at least.
        max_shared: The same, at most.
        max_depth: Depths beyond are invalid, in model units.
        name: What the data set is called; the folder's name by default.
    """
    root = Path(root)
    folders = [root / sparse] if sparse else [root / "sparse/0", root / "sparse", root]
    found = (folder for folder in folders if any(folder.glob("images.*[nt]")))
    cameras, records = read_colmap(next(found, folders[0]))
    require(root / images, "the images")
    depth_folders = [root / depths] if depths else [root / "depths", root / "depth"]
    frames, points = [], []
    for record in records:
        depth = _find_depth(root, depth_folders, record.name)
        if depth is not None:
            camera = cameras[record.camera_id]
            frames.append(
                colmap_frame(
                    record, camera, root / images / record.name, depth, depth_scale, max_depth
                )
            )
            points.append(record.point_ids)
    if not frames:
        raise ValueError(
            f"{root}: none of {len(records)} images has a depth map in stereo/depth_maps or in "
            f"{' or '.join(str(folder.relative_to(root)) for folder in depth_folders)}."
        )
    chosen = pairs_of_model(frames, points, pairs, min_shared, max_shared)
    return PairSource(name or root.resolve().name, frames, chosen)


def pairs_of_model(
    frames: list[Frame],
    points: list[NDArray[np.int64]],
    file: str | Path | None,
    min_shared: float,
    max_shared: float,
) -> Pairs:
    """Pair a model's frames as a file says, else by shared points, or by pose if it has none.

    Args:
        frames: Of the model.
        points: The numbers of the reconstructed points that each frame sees.
        file: Written by `croco3d data pair`, or None.
        min_shared: Shared points over those of the image with fewer, at least.
        max_shared: The same, at most.
    """
    if file is not None:
        return load_pairs(file, frames)
    if any(len(seen) for seen in points):
        return pairs_by_shared_points(points, min_shared, max_shared)
    return choose_pairs(frames, None, max_degrees=60.0, neighbours=10)


def colmap_frame(
    record: ColmapImage,
    camera: ColmapCamera,
    image: Path,
    depth: Path,
    depth_scale: float | None = None,
    max_depth: float | None = None,
    name: str | None = None,
    mask: Path | None = None,
) -> Frame:
    """Make the frame of a model's image."""
    if depth_scale is None:
        depth_scale = 1e-3 if depth.suffix in (".png", ".tif", ".tiff") else 1.0
    return Frame(
        image=image,
        depth=depth,
        intrinsics=camera.intrinsics,
        cam2world=record.cam2world,
        name=name or record.name,
        depth_scale=depth_scale,
        mask=mask,
        distortion=camera.distortion,
        fisheye=camera.fisheye,
        size=camera.size,
        max_depth=max_depth,
    )


def _find_depth(root: Path, folders: list[Path], image: str) -> Path | None:
    dense = root / "stereo/depth_maps" / f"{image}.geometric.bin"
    others = (
        (folder / image).with_suffix(suffix) for folder in folders for suffix in _DEPTH_SUFFIXES
    )
    return first_existing([dense, *others])
