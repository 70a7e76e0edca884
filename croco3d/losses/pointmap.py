"""Regression of pointmaps (DUSt3R, arXiv 2312.14132, section 3.2) and its invariant variants."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from croco3d.geometry import masked_median, robust_centre_scale
from croco3d.losses.base import (
    Loss,
    LossResult,
    StereoPrediction,
    full_precision,
    masked_mean,
    require,
)
from croco3d.losses.target import StereoTarget

NormMode = Literal["avg_dis", "median_dis", "sqrt_dis", "avg_log1p", "avg_warp-log1p"]
Invariance = Literal["shift", "scale", "scale_shift"]

# A prediction that has collapsed to a point, or fled, must not blow the loss up.
SCALE_RANGE = (1e-3, 1e3)


class PixelErrors(NamedTuple):
    """Distances between prediction and truth, `(B, H1, W1)` and `(B, H2, W2)`.

    Zero where the truth is not known.
    """

    view1: Tensor
    view2: Tensor


@dataclass(frozen=True)
class PointmapLoss(Loss):
    """Mean distance between predicted and true points in camera 1, summed over the two views.

    The mean of a view is over all its valid pixels in the batch. Everything that is estimated
    from points (scales, shifts) is estimated from both views of a pair together, for the
    prediction and for the truth separately. Computed in float32, under autocast too.

    Attributes:
        norm_mode: what prediction and truth are divided by, from the distances d of the valid
            points to camera 1: `"avg_dis"` mean of d; `"median_dis"` its median; `"sqrt_dis"`
            `mean(sqrt(d))**2`; `"avg_log1p"` `mean(log(1 + d))`; `"avg_warp-log1p"` first draws
            every point in to distance `log(1 + d)`, then divides by their mean; `None` or
            `False`: nothing.
        gt_scale: leave the truth as it is, so that only the prediction is normalised.
        invariance: what else does not count, for evaluation: `"shift"` subtracts the median depth
            of each; `"scale"` divides each by its median distance to its median point (with
            `gt_scale`, brings the prediction to the truth's); `"scale_shift"` does both.
    """

    norm_mode: NormMode | Literal[False] | None = "avg_dis"
    gt_scale: bool = False
    invariance: Invariance | None = None

    def __post_init__(self) -> None:
        if self.norm_mode and self.norm_mode not in get_args(NormMode):
            raise ValueError(
                f"norm_mode must be None or one of {get_args(NormMode)}, got {self.norm_mode!r}."
            )
        if self.invariance is not None and self.invariance not in get_args(Invariance):
            raise ValueError(
                f"invariance must be None or one of {get_args(Invariance)}, "
                f"got {self.invariance!r}."
            )

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """The loss of a batch; parts `pointmap1`, `pointmap2` are the views' mean distances."""
        errors = self.pixel_errors(outputs, target)
        view1 = masked_mean(errors.view1, target.valid1)
        view2 = masked_mean(errors.view2, target.valid2)
        return LossResult(view1 + view2, {"pointmap1": view1.detach(), "pointmap2": view2.detach()})

    def pixel_errors(self, outputs: StereoPrediction, target: StereoTarget) -> PixelErrors:
        """Distances between prediction and truth after normalisation.

        Raises:
            ValueError: shapes of prediction and truth differ.
        """
        predicted1 = _matching(outputs.pointmap1, target.pointmap1, target.valid1, "pointmap1")
        predicted2 = _matching(outputs.pointmap2, target.pointmap2, target.valid2, "pointmap2")
        with full_precision(predicted1):
            true1, true2 = target.in_camera1()
            valid = torch.cat((target.valid1.flatten(1), target.valid2.flatten(1)), dim=1)
            predicted = torch.cat((predicted1.flatten(1, 2), predicted2.flatten(1, 2)), dim=1)
            predicted = torch.where(valid[..., None], predicted.float(), 0.0)
            true = torch.cat((true1.flatten(1, 2), true2.flatten(1, 2)), dim=1)
            predicted, true = self._normalise(predicted, true, valid)
            error = torch.linalg.vector_norm(predicted - true, dim=-1)
            error = torch.where(valid, error, 0.0)
        pixels1 = target.valid1.flatten(1).shape[1]
        return PixelErrors(
            error[:, :pixels1].view(target.valid1.shape),
            error[:, pixels1:].view(target.valid2.shape),
        )

    def _normalise(self, predicted: Tensor, true: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        if self.norm_mode:
            predicted = normalise_points(predicted, valid, self.norm_mode)
            if not self.gt_scale:
                true = normalise_points(true, valid, self.norm_mode)
        if self.invariance in ("shift", "scale_shift"):
            predicted, true = _centre_depth(predicted, valid), _centre_depth(true, valid)
        if self.invariance in ("scale", "scale_shift"):
            predicted_scale = _or_one(robust_centre_scale(predicted, valid).scale)
            predicted_scale = predicted_scale.clamp(*SCALE_RANGE)[:, None, None]
            true_scale = _or_one(robust_centre_scale(true, valid).scale)[:, None, None]
            predicted = predicted / predicted_scale
            if self.gt_scale:
                predicted = predicted * true_scale
            else:
                true = true / true_scale.clamp(min=1e-8)
        return predicted, true


def normalise_points(points: Tensor, valid: Tensor, norm_mode: NormMode) -> Tensor:
    """Points divided by a measure of their distance to the origin; see `PointmapLoss`.

    Args:
        points: `(B, N, 3)`.
        valid: the points that count, bool `(B, N)`.
        norm_mode: which measure.

    Returns:
        `(B, N, 3)`.
    """
    distance = torch.linalg.vector_norm(points, dim=-1)
    if norm_mode == "avg_warp-log1p":
        points = points * (distance.log1p() / distance.clamp(min=1e-8))[..., None]
        distance = distance.log1p()
    if norm_mode == "median_dis":
        factor = _or_one(masked_median(distance, valid))
    elif norm_mode == "sqrt_dis":
        # The floor keeps the gradient of the root finite for a point at the origin.
        factor = _rowwise_mean(distance.clamp(min=1e-12).sqrt(), valid).square()
    elif norm_mode == "avg_log1p":
        factor = _rowwise_mean(distance.log1p(), valid)
    else:
        factor = _rowwise_mean(distance, valid)
    return points / factor.clamp(min=1e-8)[:, None, None]


def _rowwise_mean(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, 0.0).sum(1) / valid.sum(1).clamp(min=1)


def _centre_depth(points: Tensor, valid: Tensor) -> Tensor:
    depth = torch.nan_to_num(masked_median(points[..., 2], valid), nan=0.0)
    return torch.cat((points[..., :2], points[..., 2:] - depth[:, None, None]), dim=-1)


def _or_one(scale: Tensor) -> Tensor:
    return torch.where(scale.isnan(), 1.0, scale)


def _matching(predicted: Tensor | None, true: Tensor, valid: Tensor, name: str) -> Tensor:
    predicted = require(predicted, name, "a stereo model predicts it")
    if predicted.shape != true.shape or predicted.shape[:-1] != valid.shape:
        raise ValueError(
            f"{name} is predicted as {tuple(predicted.shape)}, but the truth is "
            f"{tuple(true.shape)} with a mask {tuple(valid.shape)}."
        )
    return predicted
