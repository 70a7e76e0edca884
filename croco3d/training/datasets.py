"""Data sets as options, and the loaders of a run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler

from croco3d.data import DrawDataset, ResolutionBatchSampler, make_dataset


@dataclass(kw_only=True)
class DataOptions:
    """Where pairs come from, as `croco3d.data.make_dataset` takes it.

    Attributes:
        train: data sets, each a mapping with `reader` and the reader's options, and `size` to draw
            it so often an epoch.
        validation: data sets to measure on; empty for no validation.
        resolution: side, (width, height), or several of them, one drawn for each batch.
        augment: colour jitter and zoom of training images; `None` for none.
        batch_size: pairs a process reads for each forward pass. Symmetrised batches hold twice as
            many, but encode each image once.
        workers: loader processes on each process of the run; results do not depend on it.
        prefetch: batches each worker holds ready.
    """

    train: list[dict[str, Any]]
    validation: list[dict[str, Any]] = field(default_factory=list)
    resolution: int | list[Any] = 224
    augment: dict[str, float] | None = None
    batch_size: int = 8
    workers: int = 2
    prefetch: int = 4

    def open_train(self, seed: int) -> DrawDataset:
        """Open the training data; `seed` decides crops, augmentation and resampling."""
        return make_dataset(self.train, self.resolution, self.augment, seed)

    def open_validation(self) -> DrawDataset | None:
        """Open the validation data, the same in every run."""
        return make_dataset(self.validation, self.resolution) if self.validation else None


class StepSampler(Sampler[list]):
    """Batches number `start` to `stop` of an endless row of epochs.

    The loader's workers live through all epochs, and a resumed run reads nothing twice.

    Args:
        epochs: gives the batches of one epoch.
        start: number of the first batch.
        stop: number of the batch after the last.
    """

    def __init__(self, epochs: ResolutionBatchSampler, start: int, stop: int) -> None:
        self.epochs, self.start, self.stop = epochs, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list]:
        number = self.start
        while number < self.stop:
            self.epochs.set_epoch(*divmod(number, self.epochs.batches))
            for batch in self.epochs:
                if number == self.stop:
                    return
                yield batch
                number += 1


def train_loader(
    data: DataOptions, accelerator: Accelerator, start: int, stop: int, seed: int
) -> DataLoader:
    """Load training batches `start` to `stop` of a run, this process's share of each.

    Args:
        data: what to load.
        accelerator: knows the processes.
        start: number of the first batch, counted from the start of the run.
        stop: number of the batch after the last.
        seed: decides order, resolutions, crops and augmentation.
    """
    dataset = data.open_train(seed)
    processes = accelerator.num_processes
    epochs = ResolutionBatchSampler(
        dataset,
        data.batch_size * processes,
        seed,
        rank=accelerator.process_index,
        world_size=processes,
    )
    return _loader(data, dataset, StepSampler(epochs, start, stop))


def validation_loader(
    data: DataOptions, accelerator: Accelerator, batches: int = 0
) -> DataLoader | None:
    """Load validation batches, in the same order at each validation; `None` without such data.

    Args:
        data: what to load.
        accelerator: knows the processes, which share the pairs out.
        batches: batches of a process, at most; 0 for all.
    """
    dataset = data.open_validation()
    if dataset is None:
        return None
    processes = accelerator.num_processes
    share = max(min(data.batch_size, len(dataset) // processes), 1)
    epoch = ResolutionBatchSampler(
        dataset,
        share * processes,
        shuffle=False,
        drop_last=processes > 1,
        rank=accelerator.process_index,
        world_size=processes,
    )
    count = min(batches, epoch.batches) if batches else epoch.batches
    return _loader(data, dataset, StepSampler(epoch, 0, count))


def _loader(data: DataOptions, dataset: DrawDataset, sampler: StepSampler) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=data.workers,
        prefetch_factor=data.prefetch if data.workers else None,
        pin_memory=torch.cuda.is_available(),
    )
