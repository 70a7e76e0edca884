"""Several data sets in chosen proportions, drawn anew every epoch."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from .draws import Draw, DrawDataset, Sample


class Resampled(DrawDataset):
    """A data set drawn a fixed number of times an epoch: `10_000 @ dataset`.

    Without weights, epochs walk through shuffles of the whole set one after the other, so that
    every sample is used equally often in the long run, whatever the size. With weights (of the
    data set's `weights`), samples are drawn independently in proportion to them. What an epoch
    draws depends on the seed and the epoch alone.

    Args:
        dataset: What to draw from.
        size: Samples an epoch, more or fewer than the data set has.
    """

    def __init__(self, dataset: DrawDataset, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"The size of an epoch must be a positive integer, got {size!r}.")
        self.dataset, self.size = dataset, size
        self.resolutions, self.seed = dataset.resolutions, dataset.seed

    def __len__(self) -> int:
        return self.size

    def read(self, draw: Draw) -> Sample:
        """Give the sample that this position has in this epoch."""
        return self.dataset.read(self.resolve(draw))

    def resolve(self, draw: Draw) -> Draw:
        """Translate a position of this epoch to a draw of the data set itself."""
        weights = getattr(self.dataset, "weights", None)
        if weights is not None:
            index = _weighted(_Weights(weights), self.size, self.seed, draw.epoch)[draw.index]
            return draw._replace(index=int(index), repeat=draw.index + 1)
        past, place = divmod(draw.epoch * self.size + draw.index, len(self.dataset))
        order = _shuffled(len(self.dataset), self.seed, past)
        return draw._replace(index=int(order[place]), repeat=past)


class Mixture(DrawDataset):
    """Data sets one after the other: `Mixture([10_000 @ a, 5_000 @ b])`.

    Shuffling is the sampler's work. All members must share their resolutions.

    Args:
        members: The data sets, usually resampled to the proportions wanted.
    """

    def __init__(self, members: Sequence[DrawDataset]) -> None:
        if not members:
            raise ValueError("A mixture needs at least one data set.")
        self.members = list(members)
        self.resolutions, self.seed = members[0].resolutions, members[0].seed
        for member in members:
            if member.resolutions != self.resolutions:
                raise ValueError(
                    "Members of a mixture must share their resolutions, got "
                    f"{self.resolutions} and {member.resolutions}."
                )
        self._ends = list(accumulate(len(member) for member in members))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, draw: Draw) -> Sample:
        """Give the sample of the member that this position falls into."""
        which = bisect_right(self._ends, draw.index)
        start = self._ends[which - 1] if which else 0
        return self.members[which].read(draw._replace(index=draw.index - start))


class _Weights:
    """Weights that can be a key of the cache: the same array is the same key."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values

    def __hash__(self) -> int:
        return id(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Weights) and other.values is self.values


@lru_cache(maxsize=32)
def _shuffled(count: int, seed: int, past: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, past, count)).permutation(count)


@lru_cache(maxsize=32)
def _weighted(weights: _Weights, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    values = weights.values
    return np.random.default_rng((seed, epoch, size)).choice(
        len(values), size=size, p=values / values.sum()
    )
