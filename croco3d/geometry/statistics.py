"""Medians that leave values out, and robust scales of point sets."""

from typing import NamedTuple

import torch
from torch import Tensor

WEISZFELD_ITERATIONS = 10


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """Median over the last dimension where `mask` holds; the lower of two middle values.

    Args:
        values: `(..., N)`.
        mask: bool `(..., N)`.

    Returns:
        `(...)`; NaN where the mask is empty.

    >>> masked_median(torch.tensor([1.0, 2.0, 3.0, 9.0]), torch.tensor([True, True, False, True]))
    tensor(2.)
    """
    return torch.where(mask, values, torch.nan).nanmedian(dim=-1).values


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted median over the last dimension; the lower of two middle values, NaNs left out.

    Args:
        values: `(..., N)`.
        weights: non-negative, `(..., N)`.

    Returns:
        `(...)`.

    >>> weighted_median(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 1.0, 3.0]))
    tensor(9.)
    """
    undefined = values.isnan()
    ordered, order = torch.where(undefined, torch.inf, values).sort(dim=-1)
    cumulative = torch.where(undefined, 0.0, weights).gather(-1, order).cumsum(-1)
    middle = torch.searchsorted(cumulative, cumulative[..., -1:] / 2)
    return ordered.gather(-1, middle.clamp(max=values.shape[-1] - 1)).squeeze(-1)


class CentreScale(NamedTuple):
    """A robust centre `(..., 3)` of a point set and its spread `(...)` around it."""

    centre: Tensor
    scale: Tensor


def robust_centre_scale(points: Tensor, mask: Tensor) -> CentreScale:
    """Median point per coordinate, and median distance to it.

    Args:
        points: `(..., N, 3)`.
        mask: bool `(..., N)`.

    Returns:
        NaN where the mask is empty.

    >>> points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]])
    >>> robust_centre_scale(points, torch.ones(3, dtype=torch.bool)).scale.item()
    1.0
    """
    centre = masked_median(points.mT, mask[..., None, :])
    distance = torch.linalg.vector_norm(points - centre[..., None, :], dim=-1)
    return CentreScale(centre, masked_median(distance, mask))


def estimate_scale(
    source: Tensor, target: Tensor, mask: Tensor | None = None, method: str = "weiszfeld"
) -> Tensor:
    """The factor that brings points onto their counterparts, about the common origin.

    Args:
        source: `(..., N, 3)`.
        target: `(..., N, 3)`.
        mask: the pairs to use, bool `(..., N)`.
        method: `"avg"` (least squares), `"median"` of the single points' factors, or `"weiszfeld"`
            (smallest sum of distances: least squares, then ten rounds of reweighting by inverse
            distance).

    Returns:
        `(...)`; NaN where the mask is empty.

    >>> points = torch.tensor([[1.0, 0, 2], [0, 1, 3], [1, 1, 4]])
    >>> estimate_scale(points, 2 * points).item()
    2.0
    """
    if method not in ("avg", "median", "weiszfeld"):
        raise ValueError(f"method must be 'avg', 'median' or 'weiszfeld', got {method!r}.")
    if mask is None:
        mask = torch.ones_like(source[..., 0], dtype=torch.bool)
    source = torch.where(mask[..., None], source, 0.0)
    target = torch.where(mask[..., None], target, 0.0)
    dot = (source * target).sum(-1)
    square = source.square().sum(-1)
    if method == "median":
        return masked_median(dot / square, mask)
    scale = dot.sum(-1) / square.sum(-1)
    if method == "weiszfeld":
        for _ in range(WEISZFELD_ITERATIONS):
            residual = target - scale[..., None, None] * source
            weight = 1 / torch.linalg.vector_norm(residual, dim=-1).clamp(min=1e-8)
            scale = (weight * dot).sum(-1) / (weight * square).sum(-1)
    return scale
