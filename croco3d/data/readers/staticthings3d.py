"""StaticThings3D: FlyingThings3D with everything but the camera at rest."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PairSource
from ..pairing import pairs_by_order
from ..registry import READERS
from .common import Scene, first_existing, inverse_rigid, join_scenes, require


@READERS.register("staticthings3d")
def staticthings3d(
    root: str | Path,
    split: str = "TRAIN",
    rendering: Literal["frames_cleanpass", "frames_finalpass"] = "frames_finalpass",
    cameras: Sequence[str] = ("left", "right"),
    strides: Sequence[int] = (1, 2, 3, 4, 5, 6),
    max_depth: float | None = None,
) -> PairSource:
    """Read StaticThings3D as downloaded; frames of a sequence pair up at the given strides.

    Download: github.com/lmb-freiburg/robustmvd, `rmvd/data/scripts/download_staticthings3d.sh`.
    Layout (its scripts): `frames_cleanpass`, `frames_finalpass`, `depths`, `poses`, `intrinsics`,
    each with `<split>/<A, B, C>/<sequence>/`, then `left` and `right` (not for `intrinsics`), then
    `0006.png` or `0006.float3`. `float3` is a text header (`float`, the number of dimensions, the
    dimensions from the last to the first) and little-endian floats. Poses are world to camera.

    Licence: the Scene Flow Datasets' terms, for research.

    Args:
        root: The folder that holds those five.
        split: Which one.
        rendering: Without or with motion blur, depth of field and haze.
        cameras: Which eyes.
        strides: Distances of pairs, in frames of one eye.
        max_depth: Depths beyond are invalid.
    """
    root = Path(root)
    base = require(root / rendering / split, "StaticThings3D's images")
    folders = [eye for eye in sorted(base.glob("*/*/*")) if eye.is_dir() and eye.name in cameras]

    def read(folder: Path) -> Scene:
        place = folder.relative_to(root / rendering)
        frames = []
        for depth in sorted((root / "depths" / place).glob("*.float3")):
            stem = depth.stem
            images = [folder / f"{stem}{suffix}" for suffix in (".png", ".webp")]
            world2cam = read_float3(root / "poses" / place / f"{stem}.float3")
            frames.append(
                Frame(
                    image=first_existing(images) or images[0],
                    depth=partial(read_float3, depth),
                    intrinsics=read_float3(
                        root / "intrinsics" / place.parent / f"{stem}.float3"
                    ).astype(np.float64),
                    cam2world=inverse_rigid(world2cam.astype(np.float64)),
                    name=f"{place}/{stem}",
                    max_depth=max_depth,
                )
            )
        return frames, pairs_by_order(len(frames), strides)

    return join_scenes("staticthings3d", folders, read)


def read_float3(path: Path) -> NDArray[np.float32]:
    """Read an array in the `float3` format.

    Raises:
        ValueError: If the header is another or the data is cut short.
    """
    with open(path, "rb") as file:
        if file.readline().strip() != b"float":
            raise ValueError(f"{path} is not a float3 file.")
        shape = [int(file.readline()) for _ in range(int(file.readline()))][::-1]
        data = np.frombuffer(file.read(), dtype="<f4")
    if data.size != np.prod(shape):
        raise ValueError(f"{path} is cut short: {data.size} floats for {shape}.")
    return data.reshape(shape)
