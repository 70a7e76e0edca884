"""Confidence-weighted regression (DUSt3R, arXiv 2312.14132, equation 4)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from croco3d.losses.base import (
    Loss,
    LossResult,
    StereoPrediction,
    full_precision,
    masked_mean,
    require,
)
from croco3d.losses.pointmap import PointmapLoss
from croco3d.losses.target import StereoTarget


@dataclass(frozen=True)
class ConfidenceLoss(Loss):
    """`C * error - alpha * log C`, averaged over a view's valid pixels, summed over the views.

    The prediction pays in proportion to its confidence C, and is rewarded for confidence: the
    best C of a pixel is `alpha / error`.

    Attributes:
        pointmap_loss: gives the errors.
        alpha: reward for confidence.
    """

    pointmap_loss: PointmapLoss = field(default_factory=PointmapLoss)
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}.")

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """The loss of a batch.

        Parts `confidence1`, `confidence2` are the views' shares of the total, `pointmap1` and
        `pointmap2` their mean distances.

        Raises:
            ValueError: the outputs have no confidences, or shapes differ.
        """
        errors = self.pointmap_loss.pixel_errors(outputs, target)
        total, parts = errors.view1.new_zeros(()), {}
        for view, error, valid in (
            (1, errors.view1, target.valid1),
            (2, errors.view2, target.valid2),
        ):
            confidence = require(
                getattr(outputs, f"confidence{view}", None),
                f"confidence{view}",
                "build the head with a confidence, or use PointmapLoss alone",
            )
            with full_precision(error):
                loss = masked_mean(self._weigh(error, confidence.float(), valid), valid)
            total = total + loss
            parts[f"confidence{view}"] = loss.detach()
            parts[f"pointmap{view}"] = masked_mean(error, valid).detach()
        return LossResult(total, parts)

    def _weigh(self, error: Tensor, confidence: Tensor, valid: Tensor) -> Tensor:
        if confidence.shape != error.shape:
            raise ValueError(
                f"Confidences are {tuple(confidence.shape)}, but pixels {tuple(error.shape)}."
            )
        confidence = torch.where(valid, confidence, 1.0)
        return confidence * error - self.alpha * confidence.log()
