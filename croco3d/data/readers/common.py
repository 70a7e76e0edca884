"""Small things that several readers need; loading itself is `croco3d.data.loading`'s work."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PackedFrames, PairSource
from ..pairing import Pairs, join_pairs

Scene = tuple[list[Frame], Pairs]
_S = TypeVar("_S")
_V = TypeVar("_V")

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns the camera's axes where y points up and z backwards: right-multiply a cam2world."""


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    """Give `(3, 3)` intrinsics."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def inverse_rigid(matrix: NDArray) -> NDArray[np.float64]:
    """Invert a `(4, 4)` rigid transform, for instance world2cam to cam2world."""
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


def rigid(rotation: NDArray, translation: NDArray) -> NDArray[np.float64]:
    """Put a rotation `(3, 3)` and a translation `(3,)` into a `(4, 4)` matrix."""
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation, translation
    return result


def require(path: Path, what: str) -> Path:
    """Give a path that must exist.

    Raises:
        FileNotFoundError: If it does not, naming what is expected there.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected {what} there.")
    return path


def entry_of(mapping: Mapping[str, _V], key: str, what: str) -> _V:
    """Give the entry of a file's mapping that must be there.

    Raises:
        ValueError: If it is not, naming those that are.
    """
    if key not in mapping:
        known = ", ".join(sorted(mapping)) or "nothing"
        raise ValueError(f"{what} has no {key!r}; it has {known}.")
    return mapping[key]


def first_existing(candidates: Iterable[Path]) -> Path | None:
    """Give the first path that exists."""
    return next((path for path in candidates if path.exists()), None)


def subfolders(root: Path, chosen: Sequence[str] | None, what: str) -> list[Path]:
    """Give the chosen folders of `root`, or all of them, sorted.

    Raises:
        FileNotFoundError: If `root` or a chosen folder does not exist.
    """
    require(root, f"a folder of {what}")
    if chosen is not None:
        return [require(root / name, f"one of the {what}") for name in chosen]
    return sorted(path for path in root.iterdir() if path.is_dir())


def join_scenes(name: str, scenes: Iterable[_S], read: Callable[[_S], Scene | None]) -> PairSource:
    """Read scenes one after the other into one source; None leaves a scene out."""
    groups: list[tuple[int, Pairs]] = []

    def frames() -> Iterator[Frame]:
        for item in scenes:
            scene = read(item)
            if scene is not None:
                groups.append((len(scene[0]), scene[1]))
                yield from scene[0]

    packed = PackedFrames(frames())
    return PairSource(name, packed, join_pairs(groups))
