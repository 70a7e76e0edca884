"""What is measured of one pair: an estimate, by whatever method, and its errors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from croco3d.evaluation.cameras import focal_error, pose_error
from croco3d.evaluation.clouds import cloud_error
from croco3d.evaluation.pointmaps import (
    DepthAlignment,
    PointAlignment,
    depth_error,
    normal_error,
    pointmap_error,
)
from croco3d.geometry import relative_pose
from croco3d.losses import StereoTarget

CLOUD_THRESHOLD = 0.05
CLOUD_POINTS = 5_000
ALIGNMENTS: tuple[PointAlignment, ...] = ("scale", "similarity")
DEPTH_ALIGNMENTS: tuple[DepthAlignment, ...] = ("none", "median_scale", "scale_shift")

Sample = Mapping[str, Any]


@dataclass
class StereoEstimate:
    """What a method says about one pair, in any scale. `None`: it says nothing.

    Attributes:
        pointmap1: `(H1, W1, 3)`, in camera 1.
        pointmap2: `(H2, W2, 3)`, in camera 1.
        known1: the pixels of `pointmap1` that are estimates, bool `(H1, W1)`; `None` for all.
        known2: likewise for `pointmap2`.
        confidence1: `(H1, W1)`.
        confidence2: `(H2, W2)`.
        pose2: pose of camera 2 in camera 1, `(4, 4)`; NaN where the method failed to find one.
        focal: of camera 1, in pixels.
    """

    pointmap1: Tensor | None = None
    pointmap2: Tensor | None = None
    known1: Tensor | None = None
    known2: Tensor | None = None
    confidence1: Tensor | None = None
    confidence2: Tensor | None = None
    pose2: Tensor | None = None
    focal: float | None = None


class Method(Protocol):
    """Anything that makes an estimate of a pair."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        ...

    def __call__(self, sample: Sample) -> StereoEstimate:
        """Estimate one uncollated stereo sample, results on the CPU."""
        ...


def single_target(sample: Sample) -> StereoTarget:
    """The truth of one uncollated sample, as a batch of one."""
    tensors = {key: value[None] for key, value in sample.items() if isinstance(value, Tensor)}
    return StereoTarget.from_batch(tensors)


def true_focal(intrinsics: Tensor) -> Tensor:
    """The focal of a view's `(3, 3)` intrinsics in pixels, stored transposed or not."""
    # The rows of a transposed camera are exchanged, hence the norm.
    return torch.linalg.vector_norm(intrinsics[0, :2])


def measure(estimate: StereoEstimate, sample: Sample) -> dict[str, float]:
    """All errors of one estimate that can be told; see `METRICS` for what they are.

    Args:
        estimate: of the sample.
        sample: an uncollated stereo sample with `cam2world2` and `intrinsics1`.
    """
    target = single_target(sample)
    errors: dict[str, float] = {}
    if estimate.pointmap1 is not None and estimate.pointmap2 is not None:
        errors |= _geometry_errors(estimate, target)
    if estimate.pose2 is not None:
        true = relative_pose(sample["cam2world1"].double(), sample["cam2world2"].double())
        error = pose_error(estimate.pose2.double(), true)
        errors["rotation"] = float(error.rotation)
        errors["translation"] = float(error.translation)
    if estimate.focal is not None:
        true = true_focal(sample["intrinsics1"])
        errors["focal"] = float(focal_error(torch.tensor(estimate.focal), true))
    return {name: value for name, value in errors.items() if math.isfinite(value)}


def _geometry_errors(estimate: StereoEstimate, target: StereoTarget) -> dict[str, float]:
    assert estimate.pointmap1 is not None and estimate.pointmap2 is not None
    predicted = [estimate.pointmap1.float(), estimate.pointmap2.float()]
    true = [points[0] for points in target.in_camera1()]
    valid, truth_pixels = [], 0
    known = (estimate.known1, estimate.known2)
    for points, mask, here in zip(predicted, (target.valid1, target.valid2), known, strict=True):
        truth_pixels += int(mask.sum())
        usable = mask[0] & points.isfinite().all(-1)
        valid.append(usable if here is None else usable & here)
    counted = int(valid[0].sum() + valid[1].sum())
    errors = {"coverage": counted / max(truth_pixels, 1)}
    if not valid[0].any() or not valid[1].any():
        return errors
    maps = (predicted[0], predicted[1], true[0], true[1], valid[0], valid[1])
    error = pointmap_error(*maps)
    errors |= {
        "pointmap": float(error.mean),
        "pointmap1": float(error.view1),
        "pointmap2": float(error.view2),
    }
    for alignment in ALIGNMENTS:
        aligned = pointmap_error(*maps, alignment=alignment)
        errors[f"pointmap_{alignment}"] = float(aligned.mean)
    for alignment in DEPTH_ALIGNMENTS:
        depth = depth_error(predicted[0][..., 2], true[0][..., 2], valid[0], alignment)
        errors[f"abs_rel_{alignment}"] = float(depth.abs_rel)
        errors[f"delta_{alignment}"] = float(depth.delta)
    normal = normal_error(predicted[0], true[0], valid[0])
    errors |= {"normal_degrees": float(normal.degrees), "normal_within": float(normal.within)}
    truth = torch.cat([true[0][target.valid1[0]], true[1][target.valid2[0]]])
    errors |= _cloud_errors(_select(predicted, valid), _select(true, valid), truth)
    return errors


def _select(maps: list[Tensor], masks: list[Tensor]) -> Tensor:
    return torch.cat([points[mask] for points, mask in zip(maps, masks, strict=True)])


def _cloud_errors(predicted: Tensor, counterparts: Tensor, true: Tensor) -> dict[str, float]:
    """Errors of both views' points together, in units of the truth's mean distance to camera 1.

    The prediction is scaled so that its mean distance is that of its true counterparts.
    """
    unit, own, same = (
        torch.linalg.vector_norm(cloud, dim=-1).mean() for cloud in (true, predicted, counterparts)
    )
    scaled = predicted * (same / own.clamp(min=1e-8) / unit)
    return vars(
        cloud_error(scaled, true / unit, threshold=CLOUD_THRESHOLD, max_points=CLOUD_POINTS)
    )


def restrict(estimate: StereoEstimate, to: StereoEstimate) -> StereoEstimate:
    """The points of one estimate at the pixels where another has some, for a fair comparison."""
    masks = []
    for view in (1, 2):
        points, known = (getattr(to, f"{name}{view}") for name in ("pointmap", "known"))
        own = getattr(estimate, f"known{view}")
        mask = points.isfinite().all(-1)
        masks.append(mask if known is None else mask & known)
        if own is not None:
            masks[-1] = masks[-1] & own
    return StereoEstimate(estimate.pointmap1, estimate.pointmap2, masks[0], masks[1])
