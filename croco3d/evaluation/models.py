"""Stereo models as methods that can be measured."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate
from croco3d.geometry import estimate_focal, pose_from_pointmaps


class ModelMethod:
    """A stereo model, run on each pair in both orders, every image encoded once.

    Camera 2 comes from the other order: the robust similarity from view 2's points in its own
    camera to those in camera 1, weighted by both confidences. The focal comes from view 1's points,
    with the true principal point.

    Args:
        model: a stereo model, already on its device, in evaluation mode.
        name: what the tables call it.
        dtype: of autocast; `None` runs in the model's own precision.
    """

    def __init__(self, model: Any, name: str = "model", dtype: torch.dtype | None = None) -> None:
        self.name = name
        self._model = model
        self._dtype = dtype

    @torch.inference_mode()
    def __call__(self, sample: Sample) -> StereoEstimate:
        """Run the model on one pair."""
        device = next(self._model.parameters()).device
        with nullcontext() if self._dtype is None else torch.autocast(device.type, self._dtype):
            features = [self._encode(sample, view, device) for view in (1, 2)]
            forward = self._model.decode(features[0], features[1])
            swapped = self._model.decode(features[1], features[0])
        own1, seen2, own2 = (
            _single(points) for points in (forward.pointmap1, forward.pointmap2, swapped.pointmap1)
        )
        confidences = [
            None if value is None else _single(value)
            for value in (forward.confidence1, forward.confidence2, swapped.confidence1)
        ]
        weights = None
        if confidences[1] is not None and confidences[2] is not None:
            weights = confidences[1] * confidences[2]
        pose = pose_from_pointmaps(own2, seen2, weights).pose()
        return StereoEstimate(
            pointmap1=own1,
            pointmap2=seen2,
            confidence1=confidences[0],
            confidence2=confidences[1],
            pose2=pose,
            focal=_focal(own1, sample["intrinsics1"]),
        )

    def _encode(self, sample: Sample, view: int, device: torch.device) -> Any:
        shape = sample.get(f"true_shape{view}")
        encode: Callable[..., Any] = self._model.encode
        pixels = sample[f"pixel_values{view}"][None].to(device)
        return encode(pixels, None if shape is None else shape[None].to(device))


def _single(batch: Tensor) -> Tensor:
    return batch[0].float().cpu()


def _focal(pointmap: Tensor, intrinsics: Tensor) -> float | None:
    if intrinsics[0, 0] == 0:
        # Stored transposed: its rows are exchanged, and so must be the pointmap's.
        pointmap, intrinsics = pointmap.transpose(0, 1), intrinsics[[1, 0, 2]]
    focal = float(estimate_focal(pointmap[None], intrinsics[None, :2, 2]))
    return focal if focal > 0 else None
