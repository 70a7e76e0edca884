"""One shape an image from all that was said about it, and what pairs say of two shapes.

Every first view gives its image's points in its own camera. Brought to one scale and averaged they
are the image's shape; a pair then is a similarity between two shapes, found in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from croco3d.geometry import fit_similarity, solve_pnp, weighted_median

from .residuals import MEDIAN_LENGTH
from .state import Observations

# A pair whose shapes agree better than this is not trusted any more for it.
AGREEMENT = 0.01
# Focals in units of the longer side: fields of view of 150 to 6 degrees.
FOCAL_RANGE = (0.13, 10.0)
RESECTION_RANGE = (0.35, 4.0)


@dataclass
class Shapes:
    """Images' points in their own cameras, each image in its own unit.

    Attributes:
        points: `(N, 3, P)`.
        weights: `(N, P)`.
        focals: `(N,)` in the pixels of the maps.
    """

    points: Tensor
    weights: Tensor
    focals: Tensor


@dataclass
class Edges:
    """What ordered pairs say of two shapes: `x_i = scale * rotation @ x_j + translation`.

    Attributes:
        first: `(E,)` image `i`.
        second: `(E,)` image `j`.
        scales: `(E,)` unit of shape `j` in units of shape `i`.
        rotations: `(E, 3, 3)`.
        translations: `(E, 3)` in units of shape `i`.
        units: `(E,)` the pair's unit in units of shape `i`, inverted: pair = unit * shape `i`.
        weights: `(E,)` confidence over squared disagreement.
    """

    first: Tensor
    second: Tensor
    scales: Tensor
    rotations: Tensor
    translations: Tensor
    units: Tensor
    weights: Tensor


def merge_shapes(obs: Observations, principal_points: Tensor, known_focals: Tensor) -> Shapes:
    """Average an image's first views; resection where it has none.

    Args:
        obs: Sampled observations of all pairs.
        principal_points: `(N, 2)` in pixels of the maps.
        known_focals: `(N,)`, NaN where unknown.
    """
    count, samples = len(obs.slot_images), obs.points.shape[2]
    points = obs.points.new_zeros(count, 3, samples)
    weights = obs.weights.new_zeros(count, samples)
    focals = known_focals.clone()
    for n in range(count):
        own = (obs.images == n) & (obs.views == 0)
        pixels = obs.pixels[n] - principal_points[n, :, None]
        if own.any():
            points[n], weights[n] = _average(obs.points[own], obs.weights[own])
            estimate = _focal(points[n], pixels, weights[n])
        else:
            seen = (obs.images == n).nonzero()[:, 0]
            best = int(seen[obs.weights[seen].mean(1).argmax()])
            points[n], estimate = _resect(obs.points[best], pixels, float(focals[n]))
            weights[n] = obs.weights[best]
        if focals[n].isnan():
            side = float(pixels.abs().max()) * 2
            focals[n] = estimate.nan_to_num(side).clamp(*(side * limit for limit in FOCAL_RANGE))
    return Shapes(points, weights, focals)


def measure_edges(obs: Observations, shapes: Shapes) -> Edges:
    """Fit a similarity between the shapes of every pair's images."""
    first = obs.views == 0
    second = ~first
    i, j = obs.images[first], obs.images[second]
    own, weight_own = obs.points[first], obs.weights[first] * shapes.weights[i]
    ratio = own.norm(dim=1) / shapes.points[i].norm(dim=1).clamp(min=1e-12)
    units = weighted_median(ratio, weight_own)
    other, weight = obs.points[second], obs.weights[second] * shapes.weights[j]
    near = other.norm(dim=1).median(1, keepdim=True).values
    # Errors grow with distance, so squared errors are weighed by it.
    weight = weight / (other.square().sum(1) + (0.5 * near).square())
    fit = fit_similarity(shapes.points[j].mT, other.mT, weight, robust=True)
    error = (fit.apply(shapes.points[j].mT) - other.mT).norm(dim=-1)
    error = weighted_median(error / (other.square().sum(1) + near.square()).sqrt(), weight)
    confidence = (obs.weights[first].mean(1) * obs.weights[second].mean(1)).sqrt()
    return Edges(
        first=i,
        second=j,
        scales=fit.scale / units,
        rotations=fit.rotation,
        translations=fit.translation / units[:, None],
        units=units,
        weights=confidence / ((error / MEDIAN_LENGTH).square() + AGREEMENT**2),
    )


def _average(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(3, P)` of maps `(M, 3, P)` after bringing them to the most confident one's scale."""
    best = int(weights.mean(1).argmax())
    length = points.norm(dim=1).clamp(min=1e-12)
    ratio = weighted_median(length[best] / length, weights * weights[best])
    scaled = points * ratio[:, None, None]
    total = weights.sum(0)
    share = (weights / total.clamp(min=1e-12))[:, None]
    mean = (share * scaled).sum(0)
    far = (scaled - mean).norm(dim=1)
    robust = share / (1 + (far / (2 * far.median().clamp(min=1e-9))).square())[:, None]
    return (robust * scaled).sum(0) / robust.sum(0).clamp(min=1e-12), total


def _focal(points: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """The focal under which points `(3, P)` project best onto centred pixels `(2, P)`.

    Distances between directions are minimised by reweighted least squares, as in DUSt3R.
    """
    usable = points[2] > 1e-6 * points[2].abs().median()
    rays = points[:2] / torch.where(usable, points[2], 1.0)
    dot, square = (pixels * rays).sum(0), rays.square().sum(0)
    robust = weights * usable
    focal = pixels.new_zeros(())
    for _ in range(10):
        focal = (robust * dot).sum() / (robust * square).sum().clamp(min=1e-12)
        distance = (pixels - focal * rays).norm(dim=0)
        robust = weights * usable / distance.clamp(min=1e-3)
    return focal


def _resect(points: Tensor, pixels: Tensor, known_focal: float) -> tuple[Tensor, Tensor]:
    """Camera and focal that see points `(3, P)` at pixels `(2, P)`; the points in that camera."""
    extent = 2 * float(pixels.abs().max())
    if known_focal == known_focal:
        candidates = [known_focal]
    else:
        low, high = RESECTION_RANGE
        candidates = [extent * low * (high / low) ** (k / 11) for k in range(12)]
    best, pose, focal = torch.inf, torch.eye(4, dtype=points.dtype), candidates[0]
    step = candidates[1] / candidates[0] if len(candidates) > 1 else 1.0
    for _ in range(5 if len(candidates) > 1 else 1):
        for candidate in candidates:
            error, found = _reprojection(points, pixels, candidate)
            if error < best:
                best, pose, focal = error, found, candidate
        step = step**0.4
        candidates = [focal / step, focal * step]
    local = pose[:3, :3].T @ (points - pose[:3, 3:])
    return local, points.new_tensor(focal)


def _reprojection(points: Tensor, pixels: Tensor, focal: float) -> tuple[float, Tensor]:
    """Median reprojection error over the focal, and the camera's pose."""
    camera = torch.diag(points.new_tensor([focal, focal, 1.0]))
    found = solve_pnp(points.mT, pixels.mT, camera, threshold=0.05 * float(pixels.abs().max()))
    if not found.success:
        return torch.inf, torch.eye(4, dtype=points.dtype)
    pose = found.cam2world.double()
    local = pose[:3, :3].T @ (points - pose[:3, 3:])
    error = (focal * local[:2] / local[2] - pixels).norm(dim=0).median()
    return float(error), pose
