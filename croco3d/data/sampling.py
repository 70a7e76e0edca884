"""Batches of one resolution each, the same on all ranks, shuffled by seed and epoch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .draws import Draw, DrawDataset


class ResolutionBatchSampler(Sampler[list[Draw]]):
    """Shuffled batches of draws, all of a batch at one resolution.

    What an epoch holds depends on the seed, the epoch and the global batch size: neither on the
    number of processes, which share out each global batch, nor on that of workers.

    Two ways to use it on several processes:

    - By itself: pass `rank` and `world_size`, and do not have the loader prepared by accelerate.
    - With accelerate: leave `rank` and `world_size`, pass the global batch size, and prepare the
      loader with `DataLoaderConfiguration(split_batches=True)`, so that each process takes its
      part of every batch. Without `split_batches` the processes would take turns at batches, whose
      resolutions differ. accelerate's `set_epoch`, `skip_first_batches` and `even_batches` work;
      `use_seedable_sampler` changes nothing, since the shuffling here is seeded already.

    Resuming: `set_epoch(epoch, start=k)` goes on with batch k of that epoch.

    Args:
        dataset: What to draw from; its length and its resolutions count.
        batch_size: Samples of a global batch, over all processes.
        seed: Decides order and resolutions.
        shuffle: False keeps the order of the data set and walks through the resolutions in turn.
        drop_last: Whether to leave out the last batch if it is smaller. Needed with several
            processes, for all to get equal shares.
        rank: Index of this process.
        world_size: How many processes share each batch.
    """

    def __init__(
        self,
        dataset: DrawDataset,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size} is the global one and must be a positive multiple of the "
                f"number of processes, {world_size}."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} must lie between 0 and {world_size - 1}.")
        if world_size > 1 and not drop_last:
            raise ValueError("Several processes need drop_last=True for equal shares.")
        if drop_last and len(dataset) < batch_size:
            raise ValueError(
                f"{len(dataset)} samples do not fill one batch of {batch_size}; lower the batch "
                "size, draw more (`10_000 @ dataset`), or set drop_last=False."
            )
        self.dataset_size, self.resolution_count = len(dataset), len(dataset.resolutions)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.epoch, self.start = 0, 0

    @property
    def sampler(self) -> "ResolutionBatchSampler":
        """Itself: accelerate hands `set_epoch` on to a batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and the batch to begin with."""
        if not 0 <= start <= self.batches:
            raise ValueError(f"start={start} must lie between 0 and {self.batches} batches.")
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        if self.drop_last:
            return self.dataset_size // self.batch_size
        return -(-self.dataset_size // self.batch_size)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order, resolutions = np.arange(self.dataset_size), np.arange(self.batches)
        resolutions %= self.resolution_count
        if self.shuffle:
            order = rng.permutation(self.dataset_size)
            resolutions = rng.integers(self.resolution_count, size=self.batches)
        share = self.batch_size // self.world_size
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size + self.rank * share
            last = min(first + share, (batch + 1) * self.batch_size)
            yield [
                Draw(int(index), int(resolutions[batch]), self.epoch) for index in order[first:last]
            ]
