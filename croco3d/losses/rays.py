"""Regression of the directions in which points are seen."""

from dataclasses import dataclass

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
from croco3d.losses.target import StereoTarget

# Points closer to the camera's centre than this have no direction to speak of.
SMALLEST_RANGE = 1e-6


@dataclass(frozen=True)
class RayLoss(Loss):
    """Mean distance between predicted and true unit rays from camera 1, summed over the two views.

    A ray is a point of camera 1's frame divided by its distance to the origin; for small angles
    the distance of two rays is the angle in radians. View 1's rays are the camera's field of view;
    view 2's are where the other camera's pixels fall in camera 1, so they are right only when the
    views are matched. Pointmap regression says this too, but its gradient has the length one and
    the direction of the whole error: while depth is far off, little of it is left for the rays.

    Computed in float32, under autocast too, and free of any scale.
    """

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """The loss of a batch; parts `ray1`, `ray2` are the views' shares.

        Raises:
            ValueError: a pointmap is missing or has another shape than the truth.
        """
        true1, true2 = target.in_camera1()
        view1 = _view(outputs.pointmap1, true1, target.valid1, "pointmap1")
        view2 = _view(outputs.pointmap2, true2, target.valid2, "pointmap2")
        return LossResult(view1 + view2, {"ray1": view1.detach(), "ray2": view2.detach()})


def _view(predicted: Tensor | None, true: Tensor, valid: Tensor, name: str) -> Tensor:
    predicted = require(predicted, name, "a stereo model predicts it")
    if predicted.shape != true.shape:
        raise ValueError(
            f"{name} is predicted as {tuple(predicted.shape)}, but the truth is "
            f"{tuple(true.shape)}."
        )
    with full_precision(predicted):
        known = valid[..., None]
        apart = _unit(torch.where(known, predicted.float(), 1.0)) - _unit(
            torch.where(known, true, 1.0)
        )
        return masked_mean(torch.linalg.vector_norm(apart, dim=-1), valid)


def _unit(points: Tensor) -> Tensor:
    reach = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    return points / reach.clamp(min=SMALLEST_RANGE)
