"""Errors of pointmaps, depth and surface normals. Every function says how it aligns."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from croco3d.geometry import estimate_scale, fit_similarity, masked_median, normals
from croco3d.losses.pointmap import normalise_points

PointAlignment = Literal["norm", "scale", "similarity"]
DepthAlignment = Literal["none", "median_scale", "scale_shift"]
DELTA = 1.25


@dataclass(frozen=True)
class PointmapError:
    """Mean distances in units of the truth's mean distance to camera 1, each `(...)`.

    Attributes:
        mean: mean of both views' means.
        view1: mean over view 1's pixels.
        view2: mean over view 2's pixels.
    """

    mean: Tensor
    view1: Tensor
    view2: Tensor


def pointmap_error(
    predicted1: Tensor,
    predicted2: Tensor,
    true1: Tensor,
    true2: Tensor,
    valid1: Tensor,
    valid2: Tensor,
    alignment: PointAlignment = "norm",
) -> PointmapError:
    """Distance between predicted and true points of two views, all in camera 1.

    Args:
        predicted1: `(..., H1, W1, 3)`.
        predicted2: `(..., H2, W2, 3)`.
        true1: like `predicted1`.
        true2: like `predicted2`.
        valid1: the pixels that count, bool `(..., H1, W1)`.
        valid2: bool `(..., H2, W2)`.
        alignment: `"norm"`, as in training: prediction and truth are each divided by their mean
            distance to camera 1; `"scale"`: the one factor with the smallest sum of distances;
            `"similarity"`: the robust similarity transform onto the truth, so that an error of the
            common frame does not count either.

    Returns:
        NaN where a view has no valid pixel.

    >>> truth = torch.rand(4, 5, 3) + 1
    >>> everywhere = torch.ones(4, 5, dtype=torch.bool)
    >>> error = pointmap_error(2 * truth, 2 * truth, truth, truth, everywhere, everywhere)
    >>> error.mean.item() < 1e-6
    True
    """
    _check(alignment, PointAlignment)
    batch, pixels1 = valid1.shape[:-2], valid1.shape[-2] * valid1.shape[-1]
    valid = torch.cat((valid1.flatten(-2), valid2.flatten(-2)), dim=-1).reshape(
        -1, pixels1 + valid2.shape[-2] * valid2.shape[-1]
    )

    def join(view1: Tensor, view2: Tensor) -> Tensor:
        points = torch.cat((view1.flatten(-3, -2), view2.flatten(-3, -2)), dim=-2)
        points = points.reshape(*valid.shape, 3).float()
        return torch.where(valid[..., None], points, 0.0)

    predicted, true = join(predicted1, predicted2), join(true1, true2)
    true = normalise_points(true, valid, "avg_dis")
    if alignment == "norm":
        predicted = normalise_points(predicted, valid, "avg_dis")
    elif alignment == "scale":
        predicted = estimate_scale(predicted, true, valid)[:, None, None] * predicted
    else:
        predicted = fit_similarity(predicted, true, valid.float(), robust=True).apply(predicted)
    distance = torch.linalg.vector_norm(predicted - true, dim=-1)
    view1 = mean_where(distance[:, :pixels1], valid[:, :pixels1]).view(batch)
    view2 = mean_where(distance[:, pixels1:], valid[:, pixels1:]).view(batch)
    return PointmapError((view1 + view2) / 2, view1, view2)


@dataclass(frozen=True)
class DepthError:
    """Errors of depth maps, each `(...)`.

    Attributes:
        abs_rel: mean of |prediction - truth| / truth.
        delta: share of pixels whose ratio to the truth is under 1.25, either way.
    """

    abs_rel: Tensor
    delta: Tensor


def depth_error(
    predicted: Tensor, true: Tensor, valid: Tensor, alignment: DepthAlignment = "median_scale"
) -> DepthError:
    """Relative errors of depth maps.

    Args:
        predicted: `(..., H, W)`.
        true: positive where valid, `(..., H, W)`.
        valid: the pixels that count, bool `(..., H, W)`.
        alignment: `"none"`; `"median_scale"`: the ratio of the two median depths;
            `"scale_shift"`: the factor and offset of the prediction with the least squared
            difference of depth.

    Returns:
        NaN where no pixel is valid.

    >>> truth = torch.tensor([[1.0, 2.0, 3.0]])
    >>> everywhere = torch.ones(1, 3, dtype=torch.bool)
    >>> depth_error(2 * truth, truth, everywhere).abs_rel.item()
    0.0
    """
    _check(alignment, DepthAlignment)
    valid = valid.flatten(-2)
    predicted = torch.where(valid, predicted.flatten(-2).double(), 0.0)
    true = torch.where(valid, true.flatten(-2).double(), 1.0)
    if alignment == "median_scale":
        factor = masked_median(true, valid) / masked_median(predicted, valid)
        predicted = factor[..., None] * predicted
    elif alignment == "scale_shift":
        centred = torch.where(valid, predicted - mean_where(predicted, valid)[..., None], 0.0)
        variance = centred.square().sum(-1).clamp(min=1e-12)
        factor = (centred * true).sum(-1) / variance
        predicted = factor[..., None] * centred + mean_where(true, valid)[..., None]
    ratio = predicted / true
    # A depth that is not positive is wrong by any factor.
    within = (ratio < DELTA) & (ratio > 1 / DELTA)
    return DepthError(
        mean_where((ratio - 1).abs(), valid).float(), mean_where(within.double(), valid).float()
    )


@dataclass(frozen=True)
class NormalError:
    """Errors of surface normals, each `(...)`.

    Attributes:
        degrees: mean angle to the true normal.
        within: share of pixels with an angle under 11.25 degrees.
    """

    degrees: Tensor
    within: Tensor


def normal_error(predicted: Tensor, true: Tensor, valid: Tensor) -> NormalError:
    """Angles between the surface normals of two pointmaps in one frame; scale does not matter.

    Args:
        predicted: `(..., H, W, 3)`.
        true: `(..., H, W, 3)`.
        valid: the pixels whose points count, bool `(..., H, W)`.

    Returns:
        NaN where no pixel has normals.

    >>> points = torch.rand(4, 5, 3)
    >>> normal_error(3 * points, points, torch.ones(4, 5, dtype=torch.bool)).within.item()
    1.0
    """
    found, found_where = normals(predicted, valid)
    expected, expected_where = normals(true, valid)
    sine = torch.linalg.vector_norm(torch.linalg.cross(found, expected, dim=-1), dim=-1)
    angle = torch.rad2deg(torch.atan2(sine, (found * expected).sum(-1)))
    both = (found_where & expected_where).flatten(-2)
    angle = angle.flatten(-2)
    return NormalError(mean_where(angle, both), mean_where((angle < 11.25).float(), both))


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last dimension where the mask holds, NaN where it never does.

    >>> mean_where(torch.tensor([1.0, 5.0]), torch.tensor([True, False])).item()
    1.0
    """
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1)


def _check(value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ValueError(f"alignment must be one of {get_args(choices)}, got {value!r}.")
