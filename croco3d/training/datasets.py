"""Data sets as options, and the loaders of a run."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler

from croco3d.data import Draw, DrawDataset, Mixture, ResolutionBatchSampler, make_dataset


@dataclass(kw_only=True)
class CurriculumStage:
    """What is read before the main part of a run.

    Attributes:
        until: share of the run after which the next stage begins.
        train: data sets, as in `DataOptions.train`.
    """

    until: float
    train: list[dict[str, Any]]


@dataclass(kw_only=True)
class DataOptions:
    """Where pairs come from, as `croco3d.data.make_dataset` takes it.

    Attributes:
        train: data sets, each a mapping with `reader` and the reader's options, and `size` to draw
            it so often an epoch.
        curriculum: stages of easier pairs before those of `train`, such as readers of the same
            folder with narrower ranges.
        validation: data sets to measure on; empty for no validation.
        resolution: side, (width, height), or several of them, one drawn for each batch.
        augment: colour jitter, zoom and mirroring of training images; `None` for none.
        batch_size: pairs a process reads for each forward pass. Symmetrised batches hold twice as
            many, but encode each image once.
        workers: loader processes on each process of the run; results do not depend on it.
        prefetch: batches each worker holds ready.
    """

    train: list[dict[str, Any]]
    curriculum: list[CurriculumStage] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    resolution: int | list[Any] = 224
    augment: dict[str, float] | None = None
    batch_size: int = 8
    workers: int = 2
    prefetch: int = 4

    def __post_init__(self) -> None:
        """Check what types cannot say.

        Raises:
            ValueError: naming the value and the bound.
        """
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if not self.train:
            raise ValueError("train names no data set")
        ends = [0.0, *(stage.until for stage in self.curriculum), 1.0]
        if ends != sorted(set(ends)):
            raise ValueError(
                f"curriculum must have rising `until` between 0 and 1, not {ends[1:-1]}"
            )

    def open_stages(self, seed: int) -> list[tuple[float, DrawDataset]]:
        """Open the training data of each stage, with the share of the run at which it ends."""
        stages = [(stage.until, stage.train) for stage in self.curriculum]
        return [
            (until, make_dataset(specs, self.resolution, self.augment, seed))
            for until, specs in [*stages, (1.0, self.train)]
        ]

    def open_validation(self) -> DrawDataset | None:
        """Open the validation data, the same in every run."""
        return make_dataset(self.validation, self.resolution) if self.validation else None


class StepSampler(Sampler[list[Draw]]):
    """Batches number `start` to `stop` of a run: epochs without end, stage after stage.

    The loader's workers live through all epochs, and a resumed run reads nothing twice.

    Args:
        stages: for each stage, the number of the batch that ends it and what gives the batches of
            one of its epochs. Draws are from the mixture of all stages' data sets in turn.
        start: number of the first batch.
        stop: number of the batch after the last.
    """

    def __init__(
        self, stages: Sequence[tuple[int, ResolutionBatchSampler]], start: int, stop: int
    ) -> None:
        self.stages, self.start, self.stop = list(stages), start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        begin, offset = 0, 0
        for end, epochs in self.stages:
            end = min(end, self.stop)
            number = max(begin, self.start)
            while number < end:
                epochs.set_epoch(*divmod(number - begin, epochs.batches))
                for batch in itertools.islice(epochs, end - number):
                    yield [draw._replace(index=draw.index + offset) for draw in batch]
                    number += 1
            begin, offset = end, offset + epochs.dataset_size


def train_loader(
    data: DataOptions, accelerator: Accelerator, start: int, stop: int, seed: int
) -> DataLoader:
    """Load the batches of a run from number `start`, this process's share of each.

    Args:
        data: what to load.
        accelerator: knows the processes.
        start: number of the first batch, counted from the start of the run.
        stop: how many batches the whole run has.
        seed: decides order, resolutions, crops and augmentation.
    """
    opened = data.open_stages(seed)
    processes = accelerator.num_processes
    stages = [
        (
            round(until * stop),
            ResolutionBatchSampler(
                dataset,
                data.batch_size * processes,
                seed,
                rank=accelerator.process_index,
                world_size=processes,
            ),
        )
        for until, dataset in opened
    ]
    mixture = Mixture([dataset for _, dataset in opened])
    return _loader(data, mixture, StepSampler(stages, start, stop))


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
    return _loader(data, dataset, StepSampler([(count, epoch)], 0, count))


def _loader(data: DataOptions, dataset: DrawDataset, sampler: StepSampler) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=data.workers,
        prefetch_factor=data.prefetch if data.workers else None,
        pin_memory=torch.cuda.is_available(),
    )
