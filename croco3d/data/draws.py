"""Datasets whose samples are pure functions of (seed, epoch, index).

A `Draw` carries everything that decides a sample, so that it is the same in whichever worker and on
whichever rank it is read. Batch samplers yield draws; a plain index stands for the epoch that
`set_epoch` chose.
"""

import logging
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Resolution = tuple[int, int]
"""(width, height) in pixels."""

# What broken files raise, directly or out of a decoder. A missing package is not among them.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, SyntaxError, struct.error, zlib.error)


class TooManyUnreadableError(RuntimeError):
    """More samples of a data set could not be read than it tolerates."""


class Draw(NamedTuple):
    """Which sample to read, and how.

    Attributes:
        index: The sample.
        resolution: Index into the data set's resolutions.
        epoch: Changes the augmentation.
        repeat: Tells apart draws of the same sample within one epoch.
    """

    index: int
    resolution: int = 0
    epoch: int = 0
    repeat: int = 0


class DrawDataset(Dataset[Sample], ABC):
    """A data set that is read by draws, and that replaces what cannot be read.

    Attributes:
        resolutions: The sizes `(width, height)` that it can give.
        seed: What, with a draw, decides a sample.
        epoch: The epoch of draws that name none.
    """

    resolutions: list[Resolution]
    seed: int
    epoch: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, draw: Draw) -> Sample:
        """Give the sample of a complete draw."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of plain indices.

        Loader workers that stay alive keep the epoch they were started with; a sampler that
        yields draws (`ResolutionBatchSampler`) has no such trap.
        """
        self.epoch = epoch

    def __getitem__(self, draw: int | Sequence[int]) -> Sample:
        """Read an index, (index, resolution index), or a longer `Draw`."""
        fields = (int(draw),) if isinstance(draw, int | np.integer) else tuple(draw)
        full = Draw(*fields) if len(fields) > 2 else Draw(*fields)._replace(epoch=self.epoch)
        index = full.index + len(self) if full.index < 0 else full.index
        if not 0 <= index < len(self):
            raise IndexError(f"Sample {full.index} of a data set of {len(self)}.")
        if not 0 <= full.resolution < len(self.resolutions):
            raise IndexError(f"Resolution {full.resolution} of {self.resolutions}.")
        return self.read(full._replace(index=index))

    def __rmatmul__(self, size: int) -> "DrawDataset":
        """`10_000 @ dataset` draws that many samples an epoch; see `Resampled`."""
        from .mixture import Resampled

        return Resampled(self, size)


class FileDataset(DrawDataset):
    """A `DrawDataset` that reads files: an unreadable sample is reported and replaced.

    The replacement is decided by the draw alone. The count of unreadable samples is shared by the
    loader workers of one process.

    Args:
        size: The number of samples.
        resolutions: One `(width, height)` or side, or several.
        seed: What, with a draw, decides a sample.
        max_unreadable: How many different samples may fail before an error names them.
    """

    def __init__(
        self,
        size: int,
        resolutions: int | Resolution | Sequence[Resolution],
        seed: int,
        max_unreadable: int,
    ) -> None:
        self.resolutions = normalize_resolutions(resolutions)
        self.seed = seed
        self.max_unreadable = max_unreadable
        self._size = size
        self._failed = torch.zeros(size, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return self._size

    @abstractmethod
    def load(self, index: int, resolution: Resolution, rng: np.random.Generator) -> Sample:
        """Read one sample; all chance must come from `rng`.

        Raises:
            ValueError: Or another of `UNREADABLE`, with the reason, if it cannot be used.
        """

    @abstractmethod
    def describe(self, index: int) -> str:
        """Name a sample for messages."""

    def read(self, draw: Draw) -> Sample:
        """Give the sample of a draw, or its replacement if that cannot be read.

        Raises:
            TooManyUnreadableError: If more than `max_unreadable` samples have failed so far.
        """
        index, attempt = draw.index, 0
        while True:
            rng = self._rng(draw, attempt)
            try:
                return self.load(index, self.resolutions[draw.resolution], rng)
            except UNREADABLE as error:
                replacement = int(self._rng(draw, attempt + 1, 1).integers(self._size))
                self._report(index, error, replacement)
            index, attempt = replacement, attempt + 1

    def _rng(self, draw: Draw, *more: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, draw.epoch, draw.repeat, draw.index, *more))

    def _report(self, index: int, error: Exception, replacement: int) -> None:
        self._failed[index] = True
        failed = self._failed.nonzero().flatten().tolist()
        reason = f"{type(error).__name__}: {error}"
        if len(failed) > self.max_unreadable or len(failed) == self._size:
            names = "\n  ".join(self.describe(i) for i in failed[:20])
            more = f"\n  and {len(failed) - 20} more" if len(failed) > 20 else ""
            raise TooManyUnreadableError(
                f"{len(failed)} samples could not be read, more than max_unreadable="
                f"{self.max_unreadable} or all there are:\n  {names}{more}\nThe last: {reason}\n"
                "`croco3d data check` opens every frame and says what is wrong."
            ) from error
        logger.warning(
            "Cannot read %s (%s); using %s instead.",
            self.describe(index),
            reason,
            self.describe(replacement),
        )


def normalize_resolutions(
    resolutions: int | Resolution | Sequence[Resolution],
) -> list[Resolution]:
    """Turn a side, a `(width, height)` or several of those into a list of pairs."""
    several: list[Any] = [resolutions] if isinstance(resolutions, int) else list(resolutions)
    if len(several) == 2 and all(isinstance(side, int) for side in several):
        several = [several]
    pairs = [(item, item) if isinstance(item, int) else tuple(item) for item in several]
    if not pairs or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(
            f"resolution={resolutions!r}: give a side, a (width, height), or a list of those."
        )
    return [(int(width), int(height)) for width, height in pairs]
