"""Rendered rooms as pairs for training."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..frames import Frame, PairSource
from ..registry import READERS
from .cameras import PairTable
from .shards import read_pairs

Range = tuple[float, float]


@dataclass(frozen=True)
class _View:
    """One view's array in a shard, read when called; picklable, so that loader workers get it."""

    path: str
    tensor: str
    index: int

    def __call__(self) -> NDArray:
        return _mapped(self.path)[self.tensor][self.index]


@lru_cache(maxsize=8192)
def _mapped(path: str) -> dict[str, NDArray]:
    """Map the tensors of a shard into memory; only the views that are used get read."""
    kinds = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}
    with open(path, "rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(size))
    data = np.memmap(path, np.uint8, mode="r", offset=8 + size)
    arrays = {}
    for name in ("images", "depths", "intrinsics", "cam2world"):
        begin, end = header[name]["data_offsets"]
        kind = kinds[header[name]["dtype"]]
        arrays[name] = np.asarray(data[begin:end]).view(kind).reshape(header[name]["shape"])
    return arrays


class RoomFrames(Sequence[Frame]):
    """The views of all rooms, made into frames when they are asked for.

    Args:
        paths: shards.
        counts: how many views each has.
    """

    def __init__(self, paths: list[Path], counts: list[int]) -> None:
        self._paths = [str(path) for path in paths]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(int).tolist()

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"View {index} of {len(self)}.")
        index %= len(self)
        room = bisect_right(self._starts, index) - 1
        path, view = self._paths[room], index - self._starts[room]
        arrays = _mapped(path)
        return Frame(
            image=_View(path, "images", view),
            depth=_View(path, "depths", view),
            intrinsics=arrays["intrinsics"][view],
            cam2world=arrays["cam2world"][view],
            name=f"{Path(path).stem}/{view}",
        )


@READERS.register("rooms")
def rooms(
    root: str | Path,
    overlap: Range = (0.2, 1.0),
    rotation: Range = (0.0, 180.0),
    relative_baseline: Range = (0.0, 10.0),
    fov: Range = (0.0, 180.0),
    first: int = 0,
    limit: int | None = None,
) -> PairSource:
    """Read rooms that `croco3d data render` wrote. Ranges hold their ends.

    Narrow ranges give easy pairs, wide ones hard pairs, so that a curriculum is a row of sources
    over the same folder. Rooms being added while this runs are not seen.

    Args:
        root: folder of shards.
        overlap: share of either view that the other sees too.
        rotation: angle between the views in degrees.
        relative_baseline: distance of the views over the first one's median depth.
        fov: horizontal field of view of both, in degrees.
        first: how many rooms to skip.
        limit: how many rooms to read; all where not given.

    Returns:
        Frames and pairs, each unordered pair once.

    Raises:
        ValueError: If there are no rooms, or no pair is in range.
    """
    root = Path(root)
    paths = sorted(root.glob("room-*.safetensors"))
    paths = paths[first:] if limit is None else paths[first : first + limit]
    if not paths:
        raise ValueError(
            f"{root} holds no rendered rooms; make some with `croco3d data render --out {root}`."
        )
    pairs, counts = [], []
    for path in paths:
        table, intrinsics, about = read_pairs(path)
        kept = table.indices[_in_range(table, overlap, rotation, relative_baseline)]
        angles = _fov(intrinsics, about["size"][0])
        fits = (angles >= fov[0]) & (angles <= fov[1])
        pairs.append(kept[fits[kept].all(axis=1)].astype(np.int64) + sum(counts))
        counts.append(len(intrinsics))
    return PairSource("rooms", RoomFrames(paths, counts), np.concatenate(pairs))


def _in_range(
    table: PairTable, overlap: Range, rotation: Range, relative_baseline: Range
) -> NDArray[np.bool_]:
    limits = [
        (table.overlap, overlap),
        (table.rotation, rotation),
        (table.relative_baseline, relative_baseline),
    ]
    return np.logical_and.reduce([(v >= low) & (v <= high) for v, (low, high) in limits])


def _fov(intrinsics: NDArray, width: int) -> NDArray:
    """Horizontal fields of view in degrees of `(V, 3, 3)`, `(V,)`."""
    return np.degrees(2 * np.arctan(width / 2 / intrinsics[:, 0, 0].astype(np.float64)))
