"""Stereo models as methods that can be measured."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate, true_focal
from croco3d.geometry import estimate_focal, pose_from_both_orders


class ModelMethod:
    """A stereo model, run on each pair in both orders, every image encoded once.

    Camera 2 comes from both orders (`pose_from_both_orders`), weighted by the confidences. The
    focal comes from view 1's points, with the true principal point.

    Args:
        model: a stereo model, already on its device, in evaluation mode.
        name: what the tables call it.
        dtype: of autocast; `None` runs in the model's own precision.
        known_intrinsics: stretch the points of each order in x and y so that the first view's have
            its true focal. A model has to guess the field of view, and a wrong guess bends poses
            too; classical methods are told it.
    """

    def __init__(
        self,
        model: Any,
        name: str = "model",
        dtype: torch.dtype | None = None,
        known_intrinsics: bool = False,
    ) -> None:
        self.name = name
        self._model = model
        self._dtype = dtype
        self._known_intrinsics = known_intrinsics

    @torch.inference_mode()
    def __call__(self, sample: Sample) -> StereoEstimate:
        """Run the model on one pair."""
        device = next(self._model.parameters()).device
        with nullcontext() if self._dtype is None else torch.autocast(device.type, self._dtype):
            features = [self._encode(sample, view, device) for view in (1, 2)]
            forward = self._model.decode(features[0], features[1])
            swapped = self._model.decode(features[1], features[0])
        own1, seen2, own2, seen1 = (
            _single(points)
            for order in (forward, swapped)
            for points in (order.pointmap1, order.pointmap2)
        )
        if self._known_intrinsics:
            own1, seen2 = _stretched(own1, seen2, sample["intrinsics1"])
            own2, seen1 = _stretched(own2, seen1, sample["intrinsics2"])
        confidence1, confidence2, swapped2, swapped1 = (
            None if values is None else _single(values)
            for order in (forward, swapped)
            for values in (order.confidence1, order.confidence2)
        )
        weights1, weights2 = _product(confidence1, swapped1), _product(confidence2, swapped2)
        pose = pose_from_both_orders(own1, seen2, own2, seen1, weights1, weights2).pose()
        return StereoEstimate(
            pointmap1=own1,
            pointmap2=seen2,
            confidence1=confidence1,
            confidence2=confidence2,
            pose2=pose,
            focal=None if self._known_intrinsics else _focal(own1, sample["intrinsics1"]),
        )

    def _encode(self, sample: Sample, view: int, device: torch.device) -> Any:
        shape = sample.get(f"true_shape{view}")
        encode: Callable[..., Any] = self._model.encode
        pixels = sample[f"pixel_values{view}"][None].to(device)
        return encode(pixels, None if shape is None else shape[None].to(device))


def _single(batch: Tensor) -> Tensor:
    return batch[0].float().cpu()


def _product(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return None
    return first * second


def _focal(pointmap: Tensor, intrinsics: Tensor) -> float | None:
    if intrinsics[0, 0] == 0:
        # Stored transposed: its rows are exchanged, and so must be the pointmap's.
        pointmap, intrinsics = pointmap.transpose(0, 1), intrinsics[[1, 0, 2]]
    focal = float(estimate_focal(pointmap[None], intrinsics[None, :2, 2]))
    return focal if focal > 0 else None


def _stretched(own: Tensor, seen: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Both pointmaps of an order, stretched so that the own one has the true focal."""
    true = float(true_focal(intrinsics))
    sideways = (_focal(own, intrinsics) or true) / true
    factors = own.new_tensor([sideways, sideways, 1.0])
    return own * factors, seen * factors
