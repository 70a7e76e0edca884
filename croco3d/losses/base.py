"""What every stereo loss is and returns, and sums of losses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from croco3d.losses.target import StereoTarget


class StereoPrediction(Protocol):
    """Anything with the pointmaps of two views, both in camera 1: `StereoOutput` and its like."""

    @property
    def pointmap1(self) -> Tensor | None:
        """`(B, H1, W1, 3)`."""
        ...

    @property
    def pointmap2(self) -> Tensor | None:
        """`(B, H2, W2, 3)`."""
        ...


@dataclass
class LossResult:
    """The value of a loss.

    Attributes:
        total: the scalar to minimise.
        parts: named scalars for logging, detached from the graph and before any weight.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Loss(ABC):
    """A function of predictions and truth; losses can be added and multiplied by numbers.

    `ConfidenceLoss(PointmapLoss()) + 0.2 * AttentionSupervisionLoss()` is one loss again.
    """

    @abstractmethod
    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """Compare the predictions for a batch of pairs with the truth."""

    def __add__(self, other: "Loss") -> "WeightedSum":
        return WeightedSum((*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> "WeightedSum":
        return WeightedSum(tuple((weight * inner, loss) for inner, loss in _terms(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class WeightedSum(Loss):
    """A sum of losses with weights.

    Parts keep their names; where two terms use the same one, the later gets a number.

    Attributes:
        terms: (weight, loss) pairs. Terms with weight zero are not computed.
    """

    terms: tuple[tuple[float, Loss], ...]

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """Weighted sum of the terms' totals, and all their parts."""
        total = target.pointmap1.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for weight, loss in self.terms:
            if weight == 0:
                continue
            result = loss(outputs, target)
            total = total + weight * result.total
            for name, value in result.parts.items():
                parts[_unused(name, parts)] = value
        return LossResult(total, parts)


def _terms(loss: Loss) -> tuple[tuple[float, Loss], ...]:
    return loss.terms if isinstance(loss, WeightedSum) else ((1.0, loss),)


def _unused(name: str, taken: dict[str, Tensor]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where `mask` holds; zero, still in the graph, where it never does."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which operations keep the dtype of their inputs, whatever autocast is on."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def require(value: Tensor | None, name: str, remedy: str) -> Tensor:
    """The value, or a `ValueError` that says what is missing."""
    if value is None:
        raise ValueError(f"The outputs have no {name}: {remedy}.")
    return value
