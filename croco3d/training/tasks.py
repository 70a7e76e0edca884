"""What is learned: a task turns batches into a loss, metrics and pictures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from torch import Tensor, nn

from croco3d.data import symmetrize
from croco3d.losses import LossResult

from .options import Choice

Batch = dict[str, Any]


@dataclass(kw_only=True)
class Task(Choice, ABC):
    """One thing to learn, with its own options.

    Attributes:
        monitor: the metric that is to fall; it decides which model is the best.
        symmetrize: show each pair in both orders.
    """

    monitor: ClassVar[str]

    symmetrize: bool = True

    def prepare(self, batch: Batch) -> Batch:
        """Arrange a batch, on its device, for the model."""
        return symmetrize(batch) if self.symmetrize else batch

    def pairs(self, batches: Sequence[Batch]) -> int:
        """Count the pairs, in both orders where symmetrised, that the model sees."""
        return sum(map(batch_size, batches)) * (2 if self.symmetrize else 1)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, progress: float) -> LossResult:
        """Run the model on a prepared batch.

        Args:
            model: called as a function, since it may be wrapped.
            batch: as `prepare` gave it.
            progress: share of the run that is done, from 0 to 1.
        """

    @abstractmethod
    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Measure a prepared batch: one value for each sample, `(B,)`; NaN where there is none."""

    def baselines(self, batches: Callable[[], Iterable[Batch]]) -> dict[str, Tensor]:
        """Measure predictions that take no learning, to stand beside the metrics.

        Args:
            batches: gives this process's prepared validation batches, each time from the start.
        """
        return {}

    @abstractmethod
    def picture(self, model: nn.Module, batch: Batch, count: int) -> NDArray[np.uint8]:
        """Draw the first samples of a prepared batch beside their predictions, `(H, W, 3)`."""


def batch_size(batch: Batch) -> int:
    """Count the samples of a batch."""
    return len(batch["pixel_values1"])


def sample_names(batch: Batch) -> list[str]:
    """Name the samples of a batch, for messages."""
    blank = [""] * batch_size(batch)
    columns = [batch.get(key, blank) for key in ("dataset", "name1", "name2")]
    return [" ".join(filter(None, map(str, names))) for names in zip(*columns, strict=True)]


def one_sample(batch: Batch, index: int, device: torch.device) -> Batch:
    """Cut one sample out of a batch, as a batch of one on a device."""
    return to_device({k: v[index : index + 1] for k, v in batch.items()}, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Bring the tensors of a batch to a device."""
    return cast(Batch, send_to_device(batch, device, non_blocking=True))


def first_samples(batch: Batch, count: int) -> Batch:
    """Cut the first samples out of a batch."""
    return {key: value[:count] for key, value in batch.items()}
