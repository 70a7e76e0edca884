"""Loss terms as options, each with a weight that may change over the run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from croco3d.losses import (
    AttentionSupervisionLoss,
    ConfidenceLoss,
    Loss,
    MatchingLoss,
    PointmapLoss,
    RayLoss,
    WeightedSum,
)

from .options import Choice

NormMode = Literal["avg_dis", "median_dis", "sqrt_dis", "avg_log1p", "avg_warp-log1p"]


@dataclass(kw_only=True)
class LossTerm(Choice, ABC):
    """One term of the loss.

    Attributes:
        weight: factor of the term.
        start: share of the run before which the term is left out.
        end: share of the run after which the term is left out.
        fade: share of the run, before `end`, over which the weight falls linearly to zero.
    """

    needs_attentions: ClassVar[bool] = False

    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    fade: float = 0.0

    def __post_init__(self) -> None:
        """Check the schedule.

        Raises:
            ValueError: if the times are not in order.
        """
        if not 0 <= self.start < self.end <= 1 or not 0 <= self.fade <= self.end - self.start:
            raise ValueError(
                f"start={self.start}, end={self.end}, fade={self.fade}: needs 0 <= start < end <= "
                "1, and the fade to fit in between"
            )

    def weight_at(self, progress: float) -> float:
        """Give the weight after a share `progress` of the run."""
        if not self.start <= progress or (progress >= self.end and self.end < 1):
            return 0.0
        if self.fade == 0:
            return self.weight
        return self.weight * min(max((self.end - progress) / self.fade, 0.0), 1.0)

    @abstractmethod
    def build(self) -> Loss:
        """Make the loss itself."""


@dataclass(kw_only=True)
class PointmapTerm(LossTerm, name="pointmap"):
    """Plain regression; see `croco3d.losses.PointmapLoss`.

    Attributes:
        norm_mode: what pointmaps are divided by before they are compared.
        gt_scale: leave the truth in its own unit.
    """

    norm_mode: NormMode | None = "avg_dis"
    gt_scale: bool = False

    def build(self) -> PointmapLoss:
        """Make the loss itself."""
        return PointmapLoss(self.norm_mode, self.gt_scale)


@dataclass(kw_only=True)
class ConfidenceTerm(LossTerm, name="confidence"):
    """Regression weighed by confidence; see `croco3d.losses.ConfidenceLoss`.

    From scratch, plain regression at first is safer: give a `pointmap` term an `end` and this one
    the same `start`.

    Attributes:
        norm_mode: what pointmaps are divided by before they are compared.
        gt_scale: leave the truth in its own unit.
        alpha: reward for confidence.
    """

    norm_mode: NormMode | None = "avg_dis"
    gt_scale: bool = False
    alpha: float = 0.2

    def build(self) -> ConfidenceLoss:
        """Make the loss itself."""
        return ConfidenceLoss(PointmapLoss(self.norm_mode, self.gt_scale), self.alpha)


@dataclass(kw_only=True)
class RayTerm(LossTerm, name="ray"):
    """Directions of the points as camera 1 sees them; see `croco3d.losses.RayLoss`."""

    def build(self) -> RayLoss:
        """Make the loss itself."""
        return RayLoss()


@dataclass(kw_only=True)
class AttentionTerm(LossTerm, name="attention"):
    """Supervision of cross-attention; see `croco3d.losses.AttentionSupervisionLoss`.

    Give it an `end` and a `fade`, so that the final model is free of it.

    Attributes:
        patch_size: side of the model's patches in pixels.
        layers: cross-attention layers to supervise; `None` for all but the first.
        heads: heads of those layers.
        temperature: width of the target, as a share of the range.
        cutoff: farthest counterpart, as a share of the range.
    """

    needs_attentions: ClassVar[bool] = True

    patch_size: int = 16
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] = (0, 1)
    temperature: float = 0.12
    cutoff: float = 0.2

    def build(self) -> AttentionSupervisionLoss:
        """Make the loss itself."""
        return AttentionSupervisionLoss(
            self.patch_size, self.layers, self.heads, self.temperature, self.cutoff
        )


@dataclass(kw_only=True)
class MatchingTerm(LossTerm, name="matching"):
    """InfoNCE on descriptors, for MASt3R; see `croco3d.losses.MatchingLoss`.

    Attributes:
        samples: correspondences a pair.
        temperature: of the softmax over cosines.
        alpha: reward for confidence.
        tolerance: largest distance between corresponding points, as a share of their range.
    """

    samples: int = 1024
    temperature: float = 0.07
    alpha: float = 0.2
    tolerance: float = 0.02

    def build(self) -> MatchingLoss:
        """Make the loss itself."""
        return MatchingLoss(self.samples, self.temperature, self.alpha, self.tolerance)


def combine(terms: Sequence[LossTerm], progress: float) -> WeightedSum:
    """Add up the terms with the weights of a moment of the run.

    Raises:
        ValueError: if no term has weight at that moment.
    """
    weighted = [(term.weight_at(progress), term) for term in terms]
    active = tuple((weight, term.build()) for weight, term in weighted if weight > 0)
    if not active:
        raise ValueError(f"no loss term has weight after a share {progress:.3f} of the run")
    return WeightedSum(active)
