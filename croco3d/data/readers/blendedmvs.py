"""BlendedMVS and BlendedMVG: rendered depth for blended photographs of reconstructed scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PairSource
from ..pairing import Pairs
from ..registry import READERS
from .common import Scene, inverse_rigid, join_scenes, require, subfolders


@READERS.register("blendedmvs")
def blendedmvs(
    root: str | Path,
    scenes: Sequence[str] | None = None,
    scene_list: str | Path | None = None,
    neighbours: int = 10,
) -> PairSource:
    """Read BlendedMVS, BlendedMVS+ or BlendedMVS++; pairs are those of `pair.txt`.

    Download: github.com/YoYo000/BlendedMVS. Layout (its README; MVSNet's formats): per scene
    `blended_images/00000000.jpg`, `rendered_depth_maps/00000000.pfm`, `cams/00000000_cam.txt`
    (world-to-camera matrix, intrinsics) and `cams/pair.txt` (for every image its best partners
    with scores). Scale is that of each reconstruction, not metric.

    Licence: CC BY 4.0.

    Args:
        root: The folder of scenes.
        scenes: Which ones; None for all that are there.
        scene_list: A file with a scene a line, as the published `BlendedMVS_training.txt`.
        neighbours: How many of each image's partners to use.
    """
    if scene_list is not None:
        scenes = Path(scene_list).read_text(encoding="utf-8").split()
    folders = subfolders(Path(root), scenes, "BlendedMVS scenes")
    if scenes is None:
        folders = [folder for folder in folders if (folder / "cams").is_dir()]

    def read(folder: Path) -> Scene:
        numbers, pairs = _pairs(require(folder / "cams/pair.txt", "MVSNet's pairs"), neighbours)
        return [_frame(folder, number) for number in numbers], pairs

    return join_scenes("blendedmvs", folders, read)


def _frame(folder: Path, number: int) -> Frame:
    file = f"{number:08d}"
    world2cam, intrinsics = _camera(folder / "cams" / f"{file}_cam.txt")
    return Frame(
        image=folder / "blended_images" / f"{file}.jpg",
        depth=folder / "rendered_depth_maps" / f"{file}.pfm",
        intrinsics=intrinsics,
        cam2world=inverse_rigid(world2cam),
        name=f"{folder.name}/{file}",
    )


def _camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    words = require(path, "MVSNet's camera").read_text(encoding="utf-8").split()
    if words[0] != "extrinsic" or words[17] != "intrinsic":
        raise ValueError(f"{path} is not a camera file of MVSNet.")
    extrinsic = np.array(words[1:17], dtype=np.float64).reshape(4, 4)
    return extrinsic, np.array(words[18:27], dtype=np.float64).reshape(3, 3)


def _pairs(path: Path, neighbours: int) -> tuple[list[int], Pairs]:
    """Read `pair.txt`: a count, then for every image its number and a line of partners."""
    lines = path.read_text(encoding="utf-8").splitlines()
    partners = {}
    for first, others in zip(lines[1::2], lines[2::2], strict=False):
        values = others.split()
        partners[int(first)] = [int(value) for value in values[1::2]][:neighbours]
    numbers = sorted(partners)
    place = {number: i for i, number in enumerate(numbers)}
    found = {
        (min(place[a], place[b]), max(place[a], place[b]))
        for a, others in partners.items()
        for b in others
        if b in place and b != a
    }
    return numbers, np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
