"""The pose between two cameras from the pointmaps of a pair in both orders."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from croco3d.geometry.similarity import Similarity, fit_similarity
from croco3d.geometry.statistics import weighted_median

# What an error of the log range counts beside one of the ray. Networks know directions, which are
# found by matching, several times better than distances, which are mostly guessed.
RANGE_WEIGHT = 0.2
ROUNDS, STEPS = 2, 10
SMALLEST_ERROR = 1e-4


class OwnPoints(NamedTuple):
    """Points of the pixels of one view, each set in the unit of its own order of the pair.

    Attributes:
        own: in the view's own camera, `(..., N, 3)`.
        seen: in the other view's camera, `(..., N, 3)`.
        weights: `(..., N)`; zero leaves a pixel out.
    """

    own: Tensor
    seen: Tensor
    weights: Tensor


def pose_from_both_orders(
    own1: Tensor,
    seen2: Tensor,
    own2: Tensor,
    seen1: Tensor,
    weights1: Tensor | None = None,
    weights2: Tensor | None = None,
    stride: int | None = None,
) -> Similarity:
    """The pose of camera 2 in camera 1, so that every pixel sees its own point.

    The network saw the pair in both orders. A point that it put into the other view's camera is
    brought back to its own, where its ray is known from its pixel and its distance from the other
    order; the similarity between the two cameras makes both agree, robustly, and the rays several
    times as much as the distances (in logarithms). Procrustes (`pose_from_pointmaps`), which takes
    errors in all directions alike, turns a camera to make up for a wrong slope of depth; this does
    not. From noisy predictions of near views the rotations are clearly better, and where both are
    exact they are equal.

    Levenberg-Marquardt with reweighting, from the Procrustes fit and from no rotation at all.

    Args:
        own1: view 1's points in camera 1, of the order (1, 2), `(..., H, W, 3)`.
        seen2: view 2's points in camera 1, of the same order and unit.
        own2: view 2's points in camera 2, of the order (2, 1).
        seen1: view 1's points in camera 2, of that order and unit.
        weights1: of view 1's pixels, such as the product of the confidences, `(..., H, W)`.
        weights2: of view 2's pixels.
        stride: take every so many-th row and column; by default about 1 000 pixels a view.

    Returns:
        The transform from camera 2 (the second order's unit) to camera 1 (the first's); its
        `pose()` is camera 2's pose in the unit of `own1`. NaN where fewer than three pixels of a
        view have weight.

    Raises:
        ValueError: shapes that do not fit.

    >>> from croco3d.geometry import depth_to_pointmap, intrinsics_matrix
    >>> from croco3d.geometry import invert_pose, transform_points
    >>> camera = intrinsics_matrix(torch.tensor(40.0), torch.tensor([16.0, 12.0]))
    >>> depth = 2 + torch.rand(2, 24, 32, generator=torch.Generator().manual_seed(0))
    >>> pose = torch.eye(4)
    >>> pose[0, 3] = 0.5
    >>> own1, own2 = depth_to_pointmap(depth, camera)
    >>> seen2, seen1 = transform_points(pose, own2), transform_points(invert_pose(pose), own1)
    >>> fit = pose_from_both_orders(own1, seen2, 3 * own2, 3 * seen1)
    >>> torch.allclose(fit.pose(), pose, atol=1e-4), round(float(1 / fit.scale), 3)
    (True, 3.0)
    """
    view1 = _own_points(own1, seen1, weights1, stride)
    view2 = _own_points(own2, seen2, weights2, stride)
    start = fit_similarity(
        torch.cat((view2.own, view1.seen), -2),
        torch.cat((view2.seen, view1.own), -2),
        torch.cat((view2.weights, view1.weights), -1),
        robust=True,
    )
    known = ((view1.weights > 0).sum(-1) >= 3) & ((view2.weights > 0).sum(-1) >= 3)
    known &= start.scale.isfinite()
    found = _refined(view1, view2, _filled(start, known))
    return Similarity(
        torch.where(known, found.scale, torch.nan).to(own1.dtype),
        torch.where(known[..., None, None], found.rotation, torch.nan).to(own1.dtype),
        torch.where(known[..., None], found.translation, torch.nan).to(own1.dtype),
    )


def _own_points(own: Tensor, seen: Tensor, weights: Tensor | None, stride: int | None) -> OwnPoints:
    if own.shape != seen.shape or own.ndim < 3 or own.shape[-1] != 3:
        raise ValueError(
            f"A view's pointmaps must both be (..., H, W, 3), got {tuple(own.shape)} and "
            f"{tuple(seen.shape)}."
        )
    if weights is None:
        weights = torch.ones_like(own[..., 0])
    if weights.shape != own.shape[:-1]:
        raise ValueError(
            f"weights must be {tuple(own.shape[:-1])} as the pixels, got {tuple(weights.shape)}."
        )
    height, width = weights.shape[-2:]
    step = stride or max(round((height * width / 1000) ** 0.5), 1)
    # MPS has no float64.
    precise = torch.float32 if own.device.type == "mps" else torch.float64
    at = slice(step // 2, None, step)
    own, seen = (p[..., at, at, :].flatten(-3, -2).to(precise) for p in (own, seen))
    weights = weights[..., at, at].flatten(-2).to(precise)
    usable = own.isfinite().all(-1) & seen.isfinite().all(-1) & (weights > 0)
    usable &= (own.square().sum(-1) > 0) & (seen.square().sum(-1) > 0)
    blank = ~usable[..., None]
    return OwnPoints(
        own.masked_fill(blank, 1.0),
        seen.masked_fill(blank, 1.0),
        torch.where(usable, weights, 0.0),
    )


def _filled(fit: Similarity, known: Tensor) -> Similarity:
    """The fit, and the identity where there is none."""
    turn = torch.eye(3).to(fit.rotation).expand_as(fit.rotation)
    return Similarity(
        torch.where(known, fit.scale, 1.0).clamp(min=1e-6),
        torch.where(known[..., None, None], fit.rotation, turn),
        torch.where(known[..., None], fit.translation, 0.0),
    )


def _refined(view1: OwnPoints, view2: OwnPoints, start: Similarity) -> Similarity:
    """The best of two descents: from `start`, and from its scale alone."""
    turn = torch.eye(3).to(start.rotation).expand_as(start.rotation)
    unturned = Similarity(start.scale, turn, torch.zeros_like(start.translation))
    width = _typical_error(view1, view2, start)
    descents = [_descend(view1, view2, begin, width) for begin in (start, unturned)]
    best = _better(*descents)
    for _ in range(ROUNDS - 1):
        width = _typical_error(view1, view2, best.fit)
        best = _descend(view1, view2, best.fit, width)
    return best.fit


@dataclass
class _Descent:
    """A transform and the robust cost `(...)` it reached."""

    fit: Similarity
    cost: Tensor


def _better(first: _Descent, second: _Descent) -> _Descent:
    return _where(first.cost <= second.cost, first, second)


def _where(chosen: Tensor, first: _Descent, second: _Descent) -> _Descent:
    a, b = first.fit, second.fit
    fit = Similarity(
        torch.where(chosen, a.scale, b.scale),
        torch.where(chosen[..., None, None], a.rotation, b.rotation),
        torch.where(chosen[..., None], a.translation, b.translation),
    )
    return _Descent(fit, torch.where(chosen, first.cost, second.cost))


def _descend(view1: OwnPoints, view2: OwnPoints, fit: Similarity, width: Tensor) -> _Descent:
    """Levenberg-Marquardt steps on the cost `sum w c (sqrt(c + e**2) - c)` of errors e."""
    best = _Descent(fit, _cost(view1, view2, fit, width))
    damping = torch.full_like(best.cost, 1e-3)
    for _ in range(STEPS):
        matrix, pull = _normal_equations(view1, view2, best.fit, width)
        diagonal = torch.diagonal(matrix, dim1=-2, dim2=-1)
        damped = matrix + torch.diag_embed(damping[..., None] * diagonal + 1e-12)
        step = torch.linalg.solve_ex(damped, -pull[..., None]).result[..., 0]
        moved = _moved(best.fit, step)
        trial = _Descent(moved, _cost(view1, view2, moved, width))
        lower = trial.cost < best.cost
        best = _where(lower, trial, best)
        damping = torch.where(lower, damping / 10, damping * 10).clamp(1e-9, 1e6)
    return best


def _errors(view1: OwnPoints, view2: OwnPoints, fit: Similarity) -> tuple[Tensor, Tensor]:
    """Residuals `(..., N, 4)` (ray, log range) and weights `(..., N)` of all pixels."""
    brought1 = fit.apply(view1.seen)
    brought2 = fit.inverse().apply(view2.seen)
    residuals = torch.cat((_residual(brought1, view1.own), _residual(brought2, view2.own)), -2)
    return residuals, torch.cat((view1.weights, view2.weights), -1)


def _residual(brought: Tensor, own: Tensor) -> Tensor:
    reach, known = (torch.linalg.vector_norm(p, dim=-1, keepdim=True) for p in (brought, own))
    reach = reach.clamp(min=1e-9)
    return torch.cat(
        (brought / reach - own / known, RANGE_WEIGHT * (reach.log() - known.log())), dim=-1
    )


def _typical_error(view1: OwnPoints, view2: OwnPoints, fit: Similarity) -> Tensor:
    residuals, weights = _errors(view1, view2, fit)
    length = torch.linalg.vector_norm(residuals, dim=-1)
    return weighted_median(length, weights).clamp(min=SMALLEST_ERROR)


def _cost(view1: OwnPoints, view2: OwnPoints, fit: Similarity, width: Tensor) -> Tensor:
    residuals, weights = _errors(view1, view2, fit)
    relative = residuals.square().sum(-1) / width[..., None].square()
    return (weights * ((1 + relative).sqrt() - 1)).sum(-1)


def _normal_equations(
    view1: OwnPoints, view2: OwnPoints, fit: Similarity, width: Tensor
) -> tuple[Tensor, Tensor]:
    """Gauss-Newton matrix `(..., 7, 7)` and gradient `(..., 7)` over (turn, shift, log scale).

    The turn is a rotation vector on the right of the rotation.
    """
    residuals, weights = _errors(view1, view2, fit)
    scaled = fit.scale[..., None, None, None]
    rotation = fit.rotation[..., None, :, :]
    brought1, brought2 = fit.apply(view1.seen), fit.inverse().apply(view2.seen)
    moved1 = torch.cat(
        (
            -scaled * rotation @ _cross(view1.seen),
            torch.eye(3).to(rotation).expand(*brought1.shape[:-1], 3, 3),
            (brought1 - fit.translation[..., None, :])[..., None],
        ),
        dim=-1,
    )
    moved2 = torch.cat(
        (
            _cross(brought2),
            (-rotation.mT / scaled).expand(*brought2.shape[:-1], 3, 3),
            -brought2[..., None],
        ),
        dim=-1,
    )
    jacobian = torch.cat((_ray_and_range(brought1) @ moved1, _ray_and_range(brought2) @ moved2), -3)
    relative = residuals.square().sum(-1) / width[..., None].square()
    weights = weights / (1 + relative).sqrt()
    weighted = (jacobian * weights[..., None, None]).flatten(-3, -2)
    flat = jacobian.flatten(-3, -2)
    return weighted.mT @ flat, (weighted.mT @ residuals.flatten(-2)[..., None])[..., 0]


def _ray_and_range(points: Tensor) -> Tensor:
    """Derivatives `(..., 4, 3)` of a residual by its brought point."""
    reach = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp(min=1e-9)
    ray = points / reach
    across = torch.eye(3).to(points) - ray[..., :, None] * ray[..., None, :]
    return torch.cat((across, RANGE_WEIGHT * ray[..., None, :]), dim=-2) / reach[..., None]


def _cross(vectors: Tensor) -> Tensor:
    """Matrices `(..., 3, 3)` of the cross product with `(..., 3)` from the left."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def _moved(fit: Similarity, step: Tensor) -> Similarity:
    turn = torch.linalg.matrix_exp(_cross(step[..., :3]))
    return Similarity(
        fit.scale * step[..., 6].clamp(-1, 1).exp(),
        fit.rotation @ turn,
        fit.translation + step[..., 3:6],
    )
