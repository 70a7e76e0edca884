"""Focal lengths from pointmaps."""

import torch
from torch import Tensor

from croco3d.geometry.cameras import pixel_grid
from croco3d.geometry.statistics import weighted_median

WEISZFELD_ITERATIONS = 10


def estimate_focal(
    pointmaps: Tensor,
    principal_points: Tensor,
    method: str = "weiszfeld",
    weights: Tensor | None = None,
    mask: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """The focal in pixels (square pixels) with which each pointmap projects best onto its grid.

    A pixel (u, v), relative to the principal point, asks for `u = f x / z` and `v = f y / z`.

    Args:
        pointmaps: `(B, H, W, 3)`, each in its own camera's frame.
        principal_points: (cx, cy) in pixels, `(B, 2)`.
        method: `"weiszfeld"` minimises the sum of distances between pixels and projections
            (from the least-squares solution, ten rounds of reweighting by inverse distance);
            `"median"` takes the median of all ratios `u z / x` and `v z / y`.
        weights: non-negative weights such as confidences, `(B, H, W)`.
        mask: the pixels to use, bool `(B, H, W)`.
        bounds: smallest and largest focal to return, in pixels.

    Returns:
        `(B,)`; NaN where no pixel can be used.

    Raises:
        ValueError: unknown `method`, or shapes that do not fit.

    >>> from croco3d.geometry import depth_to_pointmap, intrinsics_matrix
    >>> centre = torch.tensor([[16.0, 12.0]])
    >>> camera = intrinsics_matrix(torch.tensor([40.0]), centre)
    >>> points = depth_to_pointmap(torch.full((1, 24, 32), 3.0), camera)
    >>> round(estimate_focal(points, centre).item(), 3)
    40.0
    """
    if pointmaps.ndim != 4 or pointmaps.shape[-1] != 3:
        raise ValueError(f"pointmaps must be (B, H, W, 3), got {tuple(pointmaps.shape)}.")
    if principal_points.shape != (len(pointmaps), 2):
        raise ValueError(
            f"principal_points must be ({len(pointmaps)}, 2), got {tuple(principal_points.shape)}."
        )
    if method not in _METHODS:
        raise ValueError(f"method must be one of {sorted(_METHODS)}, got {method!r}.")
    height, width = pointmaps.shape[1:3]
    grid = pixel_grid(height, width, pointmaps.device, pointmaps.dtype)
    pixels = (grid - principal_points[:, None, None]).flatten(1, 2)
    rays = (pointmaps[..., :2] / pointmaps[..., 2:]).flatten(1, 2)
    usable = rays.isfinite().all(-1)
    if mask is not None:
        usable &= mask.flatten(1)
    used = usable.to(rays.dtype) if weights is None else weights.flatten(1) * usable
    focal = _METHODS[method](pixels, torch.where(usable[..., None], rays, 0.0), used)
    focal = torch.where(used.sum(1) > 0, focal, torch.nan)
    return focal if bounds is None else focal.clamp(*bounds)


def _weiszfeld(pixels: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    dot = (pixels * rays).sum(-1)
    square = rays.square().sum(-1)
    focal = (weights * dot).sum(1) / (weights * square).sum(1)
    for _ in range(WEISZFELD_ITERATIONS):
        distance = torch.linalg.vector_norm(pixels - focal[:, None, None] * rays, dim=-1)
        robust = weights / distance.clamp(min=1e-8)
        focal = (robust * dot).sum(1) / (robust * square).sum(1)
    return focal


def _median(pixels: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    ratios = (pixels / rays).flatten(1)
    doubled = weights[..., None].expand_as(rays).flatten(1)
    return weighted_median(ratios, doubled)


_METHODS = {"weiszfeld": _weiszfeld, "median": _median}
