"""Similarity and rigid transforms between point sets (Umeyama 1991, weighted)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from croco3d.geometry.poses import leading_to_points, pose_from_parts, transform_points

ROBUST_ITERATIONS = 20


@dataclass(frozen=True)
class Similarity:
    """The map `x -> scale * rotation @ x + translation`.

    Attributes:
        scale: `(...)`.
        rotation: `(..., 3, 3)`.
        translation: `(..., 3)`.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Transform points `(..., 3)` whose first dimensions are this transform's.

        >>> double = Similarity(torch.tensor(2.0), torch.eye(3), torch.zeros(3))
        >>> double.apply(torch.ones(2, 3))[0].tolist()
        [2.0, 2.0, 2.0]
        """
        return transform_points(self.matrix(), points)

    def apply_to_poses(self, cam2world: Tensor) -> Tensor:
        """Move cameras `(..., 4, 4)` along: centres are transformed, rotations stay rotations.

        >>> double = Similarity(torch.tensor(2.0), torch.eye(3), torch.zeros(3))
        >>> double.apply_to_poses(pose_from_parts(torch.eye(3), torch.ones(3)))[0].tolist()
        [1.0, 0.0, 0.0, 2.0]
        """
        rotation = leading_to_points(self.rotation, 2, cam2world[..., :3, 3])
        turned = (rotation[..., :, :, None] * cam2world[..., None, :3, :3]).sum(-2)
        return pose_from_parts(turned, self.apply(cam2world[..., :3, 3]))

    def inverse(self) -> "Similarity":
        """The transform back.

        >>> double = Similarity(torch.tensor(2.0), torch.eye(3), torch.ones(3))
        >>> double.inverse().apply(double.apply(torch.ones(1, 3)))[0].tolist()
        [1.0, 1.0, 1.0]
        """
        rotation = self.rotation.mT
        scale = 1 / self.scale
        translation = -scale[..., None] * (rotation * self.translation[..., None, :]).sum(-1)
        return Similarity(scale, rotation, translation)

    def compose(self, inner: "Similarity") -> "Similarity":
        """The transform that applies `inner`, then this one.

        >>> double = Similarity(torch.tensor(2.0), torch.eye(3), torch.ones(3))
        >>> double.compose(double).translation.tolist()
        [3.0, 3.0, 3.0]
        """
        rotation = (self.rotation[..., :, :, None] * inner.rotation[..., None, :, :]).sum(-2)
        return Similarity(self.scale * inner.scale, rotation, self.apply(inner.translation))

    def matrix(self) -> Tensor:
        """As one matrix `(..., 4, 4)`, with the scale multiplied into the rotation.

        >>> Similarity(torch.tensor(2.0), torch.eye(3), torch.zeros(3)).matrix()[0, 0].item()
        2.0
        """
        return pose_from_parts(self.scale[..., None, None] * self.rotation, self.translation)

    def pose(self) -> Tensor:
        """Rotation and translation without the scale, `(..., 4, 4)`.

        Where the transform takes a camera's own points to a reference frame, this is the camera's
        pose in that frame and its units.

        >>> Similarity(torch.tensor(2.0), torch.eye(3), torch.zeros(3)).pose()[0, 0].item()
        1.0
        """
        return pose_from_parts(self.rotation, self.translation)


def fit_similarity(
    source: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    with_scale: bool = True,
    robust: bool = False,
) -> Similarity:
    """The transform from `source` to `target` with the smallest weighted squared distances.

    Args:
        source: `(..., N, 3)`.
        target: their counterparts, `(..., N, 3)`.
        weights: non-negative, `(..., N)`; zero leaves a pair out, whatever its points hold.
        with_scale: fit a similarity; else a rigid transform, whose scale is one.
        robust: minimise distances rather than their squares, by twenty rounds of reweighting by
            inverse distance (IRLS); up to a third or so of gross outliers then do little harm.

    Returns:
        One transform for each of the leading dimensions, in the points' dtype. NaN where fewer
        than three pairs have weight. Collinear points leave the turn about their line arbitrary.

    Raises:
        ValueError: shapes that do not fit.

    >>> points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    >>> fit = fit_similarity(points, 2 * points + 1)
    >>> round(fit.scale.item(), 4), [round(x, 4) for x in fit.translation.tolist()]
    (2.0, [1.0, 1.0, 1.0])
    """
    if source.shape != target.shape or source.ndim < 2 or source.shape[-1] != 3:
        raise ValueError(
            f"source and target must both be (..., N, 3), got {tuple(source.shape)} and "
            f"{tuple(target.shape)}."
        )
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    dtype = source.dtype
    # Covariances of points far from the origin cancel badly in float32; MPS has no float64.
    precise = torch.float32 if source.device.type == "mps" else torch.float64
    used = weights > 0
    weights = torch.where(used, weights, 0.0).to(precise)
    source = torch.where(used[..., None], source, 0.0).to(precise)
    target = torch.where(used[..., None], target, 0.0).to(precise)
    fit = _weighted_umeyama(source, target, weights, with_scale)
    for _ in range(ROBUST_ITERATIONS if robust else 0):
        distance = torch.linalg.vector_norm(fit.apply(source) - target, dim=-1)
        # Without a floor, one perfectly fitting point takes all the weight.
        floor = 1e-3 * (weights * distance).sum(-1) / weights.sum(-1).clamp(min=1e-12)
        reweighted = weights / torch.maximum(distance, floor[..., None]).clamp(min=1e-12)
        fit = _weighted_umeyama(source, target, reweighted, with_scale)
    determined = used.sum(-1) >= 3
    return Similarity(
        torch.where(determined, fit.scale, torch.nan).to(dtype),
        torch.where(determined[..., None, None], fit.rotation, torch.nan).to(dtype),
        torch.where(determined[..., None], fit.translation, torch.nan).to(dtype),
    )


def _weighted_umeyama(
    source: Tensor, target: Tensor, weights: Tensor, with_scale: bool
) -> Similarity:
    share = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-30))[..., None]
    source_mean = (share * source).sum(-2, keepdim=True)
    target_mean = (share * target).sum(-2, keepdim=True)
    centred = source - source_mean
    covariance = (share * (target - target_mean)).mT @ centred
    left, singular, right = torch.linalg.svd(covariance)
    signs = torch.ones_like(singular)
    signs[..., 2] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    rotation = (left * signs[..., None, :]) @ right
    variance = (share * centred.square()).sum((-2, -1))
    scale = (singular * signs).sum(-1) / variance.clamp(min=1e-30)
    scale = scale if with_scale else torch.ones_like(scale)
    turned = (rotation @ source_mean.mT).squeeze(-1)
    translation = target_mean.squeeze(-2) - scale[..., None] * turned
    return Similarity(scale, rotation, translation)
