"""Supervision of cross-attention by true correspondence.

A decoder that has to put both views into one frame must find, for each patch, the patch of the
other view that sees the same surface. Regression alone teaches this late. Where depth and poses
are known the answer is known too, so a few attention heads can be told directly.
"""

from dataclasses import dataclass
from typing import NamedTuple

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

SMALLEST_PROBABILITY = 1e-12


class PatchTargets(NamedTuple):
    """Where the patches of one view ought to look in the other.

    Attributes:
        probabilities: `(B, N, M)` over the other view's M patches; rows sum to one.
        kept: the patches that have a counterpart, bool `(B, N)`.
        near: the other view's patches within the cut-off, bool `(B, N, M)`.
    """

    probabilities: Tensor
    kept: Tensor
    near: Tensor


@dataclass(frozen=True)
class AttentionSupervisionLoss(Loss):
    """Cross-entropy between cross-attention and the true correspondence of patch centres.

    For a patch whose centre sees the point x at range r (its distance to its own camera), the
    target over the other view's patch centres y is `softmax(-(|x - y| / (temperature r))**2)`.
    Patches without any y within `cutoff * r` see what the other view does not and are left out, as
    are patches whose centre is not valid. Every chosen head of every chosen layer of both decoder
    stacks is compared with it; the loss is the mean over patches, heads and layers, summed over
    the two views.

    The model must return its cross-attentions (`output_attentions=True` with eager attention).
    The loss keeps one `(B, N, M)` target a view and, for backward, one float32 copy of the chosen
    heads a layer, so choosing few heads keeps it cheap; there is no transfer to the host.

    To end free of its influence, let its weight fall to zero before training ends.

    Attributes:
        patch_size: side of a patch in pixels.
        layers: cross-attention layers to supervise, negative ones counting from the last; `None`
            means all but the first.
        heads: heads of those layers; the others stay free.
        temperature: width of the target, as a share of the range.
        cutoff: farthest counterpart, as a share of the range.
    """

    patch_size: int = 16
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] = (0, 1)
    temperature: float = 0.12
    cutoff: float = 0.2

    def __post_init__(self) -> None:
        if not self.heads or self.layers == ():
            raise ValueError("Choose at least one head and one layer, or drop this loss.")
        for name in ("patch_size", "temperature", "cutoff"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")

    def __call__(self, outputs: StereoPrediction, target: StereoTarget) -> LossResult:
        """The loss of a batch.

        Parts `attention1`, `attention2` are the views' shares; `attention_mass1`,
        `attention_mass2` the share of attention that falls on patches within the cut-off.

        Raises:
            ValueError: no cross-attentions, a layer or head the model does not have, or a patch
                grid that does not fit.
        """
        points1, points2 = target.in_camera1()
        pose2 = target.camera2_in_camera1()
        origin = points1.new_zeros(len(points1), 1, 3)
        centre2 = origin if pose2 is None else pose2[:, None, :3, 3]
        patches1 = self._patches(points1, target.valid1, target.true_shape1)
        patches2 = self._patches(points2, target.valid2, target.true_shape2)
        view1 = self._view_loss(outputs, 1, self.patch_targets(*patches1, *patches2, origin))
        view2 = self._view_loss(outputs, 2, self.patch_targets(*patches2, *patches1, centre2))
        return LossResult(view1.total + view2.total, view1.parts | view2.parts)

    @torch.no_grad()
    def patch_targets(
        self, points: Tensor, valid: Tensor, others: Tensor, others_valid: Tensor, centre: Tensor
    ) -> PatchTargets:
        """Where patches ought to look.

        Args:
            points: points at the patch centres, `(B, N, 3)`.
            valid: whether they are known, bool `(B, N)`.
            others: those of the other view, `(B, M, 3)`, in the same frame.
            others_valid: bool `(B, M)`.
            centre: centre of the first view's camera, `(B, 1, 3)`.

        Returns:
            Soft targets, and which patches have one.
        """
        span = torch.linalg.vector_norm(points - centre, dim=-1).clamp(min=1e-8)
        distance = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
        distance = torch.where(others_valid[:, None], distance / span[..., None], torch.inf)
        near = distance < self.cutoff
        kept = valid & near.any(-1)
        logits = torch.where(kept[..., None], -(distance / self.temperature).square(), 0.0)
        return PatchTargets(logits.softmax(-1), kept, near)

    def _patches(
        self, points: Tensor, valid: Tensor, true_shape: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Points and validity at patch centres in the order of the tokens."""
        size = self.patch_size
        if points.shape[1] % size or points.shape[2] % size:
            raise ValueError(
                f"A view of {points.shape[1]}x{points.shape[2]} pixels has no whole number of "
                f"patches of {size}."
            )
        points = points[:, size // 2 :: size, size // 2 :: size]
        valid = valid[:, size // 2 :: size, size // 2 :: size]
        flat_points, flat_valid = points.flatten(1, 2), valid.flatten(1)
        if true_shape is None or points.shape[1] == points.shape[2]:
            return flat_points, flat_valid
        # Tokens follow the true orientation, pixels the stored one.
        stored_landscape = points.shape[1] < points.shape[2]
        transposed = (true_shape[:, 0] < true_shape[:, 1]) != stored_landscape
        turned_points = points.transpose(1, 2).flatten(1, 2)
        turned_valid = valid.transpose(1, 2).flatten(1)
        return (
            torch.where(transposed[:, None, None], turned_points, flat_points),
            torch.where(transposed[:, None], turned_valid, flat_valid),
        )

    def _view_loss(self, outputs: StereoPrediction, view: int, targets: PatchTargets) -> LossResult:
        name = f"cross_attentions{view}"
        attentions = require(
            getattr(outputs, name, None), name, "call the model with output_attentions=True"
        )
        layers = range(1, len(attentions)) if self.layers is None else self.layers
        if not layers or not all(-len(attentions) <= layer < len(attentions) for layer in layers):
            raise ValueError(
                f"Layers {tuple(layers)} of cross-attention were asked for, but the model returned "
                f"{len(attentions)}."
            )
        total, mass = (targets.probabilities.new_zeros(()) for _ in range(2))
        for layer in layers:
            attention = self._chosen_heads(attentions[layer], targets)
            with full_precision(attention):
                log = attention.float().clamp(min=SMALLEST_PROBABILITY).log()
                entropy = -(targets.probabilities[:, None] * log).sum(-1).mean(1)
                on_target = (attention.detach().float() * targets.near[:, None]).sum(-1).mean(1)
            total = total + masked_mean(entropy, targets.kept) / len(layers)
            mass = mass + masked_mean(on_target, targets.kept) / len(layers)
        return LossResult(
            total, {f"attention{view}": total.detach(), f"attention_mass{view}": mass}
        )

    def _chosen_heads(self, attention: Tensor, targets: PatchTargets) -> Tensor:
        batch, heads, queries, keys = attention.shape
        if (batch, queries, keys) != tuple(targets.probabilities.shape):
            raise ValueError(
                f"Attention of shape {tuple(attention.shape)} does not fit patches of size "
                f"{self.patch_size}, which give {tuple(targets.probabilities.shape)}."
            )
        if not all(-heads <= head < heads for head in self.heads):
            raise ValueError(f"Heads {self.heads} were asked for, but a layer has {heads}.")
        return attention[:, list(self.heads)]
