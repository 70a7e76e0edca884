"""What a reader says: where each frame's files are, and which frames pair up.

Cameras have OpenCV axes (x right, y down, z forward), poses are camera to world, and integer pixel
coordinates are pixel centres. Readers convert what they read to that; nothing here loads a file.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

ArraySource = str | Path | NDArray | Callable[[], NDArray]
"""A file, an array, or a picklable function without arguments that gives the array."""


@dataclass(frozen=True)
class Frame:
    """One posed image with depth.

    Attributes:
        image: The colours: a file, or `(H, W, 3)` uint8.
        depth: Distance along the optical axis: a file that `load_depth` knows, or `(h, w)`. May
            have another size than the image if it has the same shape of rectangle. Zero, negative
            and non-finite values are invalid.
        intrinsics: `(3, 3)`, in pixels of the image.
        cam2world: `(4, 4)`.
        name: What identifies the frame in messages, unique within its source.
        depth_scale: World units (metres, where known) per stored unit of depth.
        mask: Where depth may be trusted: a file, or `(h, w)`; nonzero (over 127 in images with
            larger values) is valid. None trusts all of it.
        distortion: OpenCV's coefficients `(4..14,)`, or four of the fisheye model; None for a
            pinhole. Loading removes the distortion.
        fisheye: Whether `distortion` belongs to OpenCV's fisheye model.
        sparse_depth: Whether depth is known at few pixels only (projected lidar). Resizing then
            keeps every measured point instead of sampling the nearest pixel.
        size: (width, height) that the intrinsics are for, where files may hold the image at another
            size; loading scales the intrinsics. None if they are for the image as it is.
        max_depth: Depths beyond this (world units) are invalid; None for no limit.
    """

    image: ArraySource
    depth: ArraySource
    intrinsics: NDArray
    cam2world: NDArray
    name: str
    depth_scale: float = 1.0
    mask: ArraySource | None = None
    distortion: NDArray | None = None
    fisheye: bool = False
    sparse_depth: bool = False
    size: tuple[int, int] | None = None
    max_depth: float | None = None


class PackedFrames(Sequence[Frame]):
    """Frames as bytes in one array, made into objects when asked for.

    Millions of small objects take gigabytes, and as loader workers touch their reference counts,
    every worker gets its own copy of them. One array is shared.

    Args:
        frames: The frames.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        packed = [pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL) for frame in frames]
        self._bytes = np.frombuffer(b"".join(packed), dtype=np.uint8)
        self._ends = np.cumsum([len(data) for data in packed], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        return pickle.loads(self._bytes[start : self._ends[index]].tobytes())


@dataclass(frozen=True)
class PairSource:
    """The frames of a data set and which of them pair up; what every reader returns.

    Attributes:
        name: The data set's name, given with every sample.
        frames: The frames; any sequence, so that a large or rendered set can make them on demand.
        pairs: `(P, 2)` indices into `frames`.
        weights: `(P,)` how often each pair should be drawn, relative to the others; None for
            equally often. Used where a data set is resampled (`10_000 @ dataset`).
    """

    name: str
    frames: Sequence[Frame]
    pairs: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        pairs = np.asarray(self.pairs, dtype=np.int64).reshape(-1, 2)
        object.__setattr__(self, "pairs", pairs)
        if len(pairs) == 0:
            raise ValueError(
                f"{self.name}: no pair among {len(self.frames)} frames. Check the folder, or "
                "loosen how the reader pairs frames; `croco3d data pair` finds pairs by overlap."
            )
        if pairs.min() < 0 or pairs.max() >= len(self.frames):
            raise ValueError(
                f"{self.name}: pairs name frames {pairs.min()} to {pairs.max()}, but the frames "
                f"are 0 to {len(self.frames) - 1}."
            )
        if self.weights is not None:
            self._check_weights(np.asarray(self.weights, dtype=np.float64))

    def _check_weights(self, weights: NDArray[np.float64]) -> None:
        object.__setattr__(self, "weights", weights)
        if weights.shape != (len(self.pairs),):
            raise ValueError(
                f"{self.name}: {len(self.pairs)} pairs need as many weights, got {weights.shape}."
            )
        if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
            raise ValueError(
                f"{self.name}: weights must be finite, not negative, and not all zero."
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, index: int) -> tuple[Frame, Frame]:
        """Give the two frames of a pair."""
        first, second = self.pairs[index]
        return self.frames[int(first)], self.frames[int(second)]


Reader = Callable[..., PairSource]
"""A reader is a function from a root folder and options to a `PairSource`."""
