"""Matching loss on descriptors (MASt3R, arXiv 2406.09756, section 3.2)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from croco3d.geometry import projective_matches, reciprocal_matches
from croco3d.losses.base import (
    Loss,
    LossResult,
    StereoPrediction,
    full_precision,
    masked_mean,
    require,
)
from croco3d.losses.target import StereoTarget

# Low enough to weigh nothing, finite so that rows without any match stay free of NaN.
EXCLUDED = -1e4


class Correspondences(NamedTuple):
    """K sampled correspondences a pair.

    Attributes:
        index1: flat pixel indices into view 1, `(B, K)`.
        index2: the same surface in view 2, `(B, K)`.
        valid: bool `(B, K)`; pairs with fewer than K correspondences fill up with invalid ones.
    """

    index1: Tensor
    index2: Tensor
    valid: Tensor


@dataclass(frozen=True)
class MatchingLoss(Loss):
    """InfoNCE: a pixel's descriptor must single out its counterpart among all sampled ones.

    True correspondences are found by projecting view 1's points into view 2 and comparing depth;
    where the target does not hold camera 2, as reciprocal nearest neighbours of the two pointmaps
    (slower). `samples` of them are drawn a pair, from torch's random state. The cross-entropy runs
    both ways. With descriptor confidences Q it becomes `Q loss - alpha log Q`, Q being the
    geometric mean of both pixels'.

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

    def __post_init__(self) -> None:
        for name in ("samples", "temperature", "alpha", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """The loss of a batch.

        Part `matching` is the cross-entropy before confidence, `matching_accuracy` the share of
        sampled pixels whose best match among the samples is the right one.

        Raises:
            ValueError: the outputs have no descriptors.
        """
        remedy = "MatchingLoss needs a head with descriptors, such as MASt3R's"
        maps = [
            require(getattr(outputs, f"descriptors{view}", None), f"descriptors{view}", remedy)
            for view in (1, 2)
        ]
        found = self.sample(target)
        with full_precision(maps[0]):
            first = _gather(maps[0].float(), found.index1)
            second = _gather(maps[1].float(), found.index2)
            similarity = first @ second.mT / self.temperature
            entropy, right = _cross_entropy(similarity, found)
            loss = self._weigh(entropy, outputs, found)
        parts = {
            "matching": masked_mean(entropy, found.valid).detach(),
            "matching_accuracy": masked_mean(right.float(), found.valid).detach(),
        }
        return LossResult(masked_mean(loss, found.valid), parts)

    @torch.no_grad()
    def sample(self, target: StereoTarget) -> Correspondences:
        """Random true correspondences of each pair."""
        matches = true_matches(target, self.tolerance)
        count = min(self.samples, matches.shape[1])
        keys = torch.rand(matches.shape, device=matches.device)
        keys, index1 = torch.where(matches >= 0, keys, -1.0).topk(count, dim=1)
        return Correspondences(index1, matches.gather(1, index1).clamp(min=0), keys >= 0)

    def _weigh(self, entropy: Tensor, outputs: StereoPrediction, found: Correspondences) -> Tensor:
        confidence1 = getattr(outputs, "descriptor_confidence1", None)
        confidence2 = getattr(outputs, "descriptor_confidence2", None)
        if confidence1 is None or confidence2 is None:
            return entropy
        first = _gather(confidence1.float()[..., None], found.index1).squeeze(-1)
        second = _gather(confidence2.float()[..., None], found.index2).squeeze(-1)
        logarithm = (first.log() + second.log()) / 2
        return logarithm.exp() * entropy - self.alpha * logarithm


def true_matches(target: StereoTarget, tolerance: float) -> Tensor:
    """For each pixel of view 1 the pixel of view 2 that sees the same surface.

    Args:
        target: the truth.
        tolerance: largest distance of the points, as a share of their range.

    Returns:
        Flat indices into view 2, `(B, H1 * W1)`, long; -1 where there is none.
    """
    points1, points2 = target.in_camera1()
    pose2 = target.camera2_in_camera1()
    if pose2 is not None and target.intrinsics2 is not None:
        return projective_matches(
            points1,
            points2,
            target.intrinsics2.float(),
            pose2,
            valid_a=target.valid1,
            valid_b=target.valid2,
            tolerance=tolerance,
        ).flatten(1)
    matches = torch.full_like(target.valid1.flatten(1), -1, dtype=torch.long)
    for row, valid1, valid2, first, second in zip(
        matches, target.valid1, target.valid2, points1, points2, strict=True
    ):
        pairs = reciprocal_matches(first, second, valid1, valid2)
        start, end = first.flatten(0, 1)[pairs[:, 0]], second.flatten(0, 1)[pairs[:, 1]]
        limit = tolerance * torch.linalg.vector_norm(start, dim=-1)
        near = torch.linalg.vector_norm(start - end, dim=-1) <= limit
        row[pairs[near, 0]] = pairs[near, 1]
    return matches


def _gather(maps: Tensor, index: Tensor) -> Tensor:
    flat = maps.flatten(1, 2)
    return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))


def _cross_entropy(similarity: Tensor, found: Correspondences) -> tuple[Tensor, Tensor]:
    """Mean of both directions' cross-entropies and whether the forward match is right, `(B, K)`."""
    batch, count = similarity.shape[:2]
    diagonal = torch.eye(count, dtype=torch.bool, device=similarity.device)
    right = torch.arange(count, device=similarity.device).expand(batch, count)
    entropy = torch.zeros_like(similarity[..., 0])
    scores = similarity
    # View 1's pixels come last, so that `scores` are theirs afterwards.
    for index, scores in ((found.index1, similarity.mT), (found.index2, similarity)):
        # Neighbours that fall into one pixel of the other view are not each other's negatives.
        excluded = (index[:, :, None] == index[:, None]) & ~diagonal | ~found.valid[:, None]
        scores = scores.masked_fill(excluded, EXCLUDED)
        losses = functional.cross_entropy(scores.flatten(0, 1), right.flatten(), reduction="none")
        entropy = entropy + losses.view(batch, count) / 2
    return entropy, scores.detach().argmax(-1) == right
