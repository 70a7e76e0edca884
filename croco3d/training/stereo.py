"""The stereo task (DUSt3R): pointmaps of two views from posed images with depth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from croco3d.geometry import pose_from_pointmaps, relative_pose, rotation_angle
from croco3d.losses import LossResult, PointmapLoss, StereoTarget
from croco3d.modeling.outputs import StereoOutput

from . import pictures
from .tasks import Batch, Task, batch_size, first_samples
from .terms import ConfidenceTerm, LossTerm, combine


@dataclass(kw_only=True)
class StereoTask(Task, name="stereo"):
    """Regress both views' points in camera 1.

    Attributes:
        terms: of the loss, added up.
    """

    monitor: ClassVar[str] = "pointmap"

    terms: list[LossTerm] = field(default_factory=lambda: [ConfidenceTerm()])

    def loss(self, model: nn.Module, batch: Batch, progress: float) -> LossResult:
        """Predict and compare with the truth."""
        active = [term for term in self.terms if term.weight_at(progress) > 0]
        attentions = any(term.needs_attentions for term in active)
        outputs = self._predict(model, batch, output_attentions=attentions)
        return combine(active, progress)(outputs, StereoTarget.from_batch(batch))

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Measure a batch, and beside it what predicting no rotation would give.

        `pointmap1`, `pointmap2`: mean distance over a view's valid pixels, prediction and truth
        each divided by its mean distance to camera 1; `pointmap` is their mean. In symmetrised
        batches also the angle in degrees between true and predicted rotation (`rotation`), the
        rotation itself (`rotation_identity`, the error of predicting none), and the shares of
        pairs under 5 and 15 degrees of each. View 2's rotation is that which takes its points as
        seen in its own camera, by the pair in the other order, to those in camera 1.
        """
        outputs, target = self._predict(model, batch), StereoTarget.from_batch(batch)
        metrics = pointmap_errors(outputs, target)
        if self.symmetrize:
            metrics |= rotation_errors(outputs, batch)
        return metrics

    def picture(self, model: nn.Module, batch: Batch, count: int) -> NDArray[np.uint8]:
        """Draw images, true and predicted depth, and confidence, one pair a row."""
        some = first_samples(batch, min(2 * count, batch_size(batch)))
        outputs = self._predict(model, some)
        every = 2 if self.symmetrize else 1
        rows = range(0, batch_size(some), every)
        return pictures.grid([_row(some, outputs, i) for i in rows][:count])

    def baselines(self, batches: Callable[[], Iterable[Batch]]) -> dict[str, Tensor]:
        """Measure the mean pointmap of the validation pairs themselves."""
        mean = MeanPointmap()
        for batch in batches():
            mean.add(StereoTarget.from_batch(batch))
        mean.share()
        errors = [mean.errors(StereoTarget.from_batch(batch)) for batch in batches()]
        return {f"{name}_mean": torch.cat([e[name] for e in errors]) for name in errors[0]}

    def _predict(
        self, model: nn.Module, batch: Batch, output_attentions: bool = False
    ) -> StereoOutput:
        return model(
            batch["pixel_values1"],
            batch["pixel_values2"],
            batch.get("true_shape1"),
            batch.get("true_shape2"),
            symmetrized=self.symmetrize,
            output_attentions=output_attentions,
        )


def pointmap_errors(outputs: StereoOutput, target: StereoTarget) -> dict[str, Tensor]:
    """Mean normalised distance between predicted and true points of each sample, `(B,)`."""
    errors = PointmapLoss().pixel_errors(outputs, target)
    view1 = mean_where(errors.view1, target.valid1)
    view2 = mean_where(errors.view2, target.valid2)
    return {"pointmap": (view1 + view2) / 2, "pointmap1": view1, "pointmap2": view2}


def rotation_errors(outputs: StereoOutput, batch: Batch) -> dict[str, Tensor]:
    """Rotation error in degrees, and shares under 5 and 15, of a symmetrised batch, `(B,)`."""
    assert outputs.pointmap1 is not None and outputs.pointmap2 is not None
    own = outputs.pointmap1.unflatten(0, (-1, 2)).flip(1).flatten(0, 1).float()
    weights = torch.ones_like(own[..., 0])
    if outputs.confidence1 is not None and outputs.confidence2 is not None:
        other = outputs.confidence1.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        weights = (other * outputs.confidence2).float()
    fitted = pose_from_pointmaps(own, outputs.pointmap2.float(), weights, robust=False).rotation
    true = relative_pose(batch["cam2world1"], batch["cam2world2"])[:, :3, :3]
    identity = torch.eye(3, device=true.device).expand_as(true)
    metrics = {}
    for suffix, rotation in (("", fitted), ("_identity", identity)):
        angle = rotation_angle(rotation.float(), true.float())
        metrics[f"rotation{suffix}"] = angle
        for limit in (5, 15):
            metrics[f"rra{limit}{suffix}"] = (angle < limit).float()
    return metrics


class MeanPointmap:
    """The mean of true pointmaps: the best prediction that does not look at its images.

    Its mean is that of the very pairs it is measured on, so that it is, if anything, too good.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple, Tensor] = {}

    def add(self, target: StereoTarget) -> None:
        """Take up a batch: sums of points and counts of valid ones, for each pair of sizes."""
        points = _normalised(target)
        valid = (target.valid1, target.valid2)
        sums = [
            torch.cat((p * v[..., None], v[..., None]), dim=-1).double().sum(0).flatten(0, 1)
            for p, v in zip(points, valid, strict=True)
        ]
        key = (tuple(target.valid1.shape[1:]), tuple(target.valid2.shape[1:]))
        both = torch.cat(sums).cpu()
        self._sums[key] = self._sums[key] + both if key in self._sums else both

    def share(self) -> None:
        """Add up what all processes have taken up."""
        merged: dict[tuple, Tensor] = {}
        for sums in gather_object([self._sums]):
            for key, value in sums.items():
                merged[key] = merged[key] + value if key in merged else value
        self._sums = merged

    def errors(self, target: StereoTarget) -> dict[str, Tensor]:
        """Measure the mean against a batch, as `pointmap_errors` does."""
        batch, *size1 = target.valid1.shape
        size2 = target.valid2.shape[1:]
        sums = self._sums[(tuple(size1), tuple(size2))].to(target.pointmap1.device)
        mean = (sums[:, :3] / sums[:, 3:].clamp(min=1)).float()
        count = size1[0] * size1[1]
        outputs = StereoOutput(
            pointmap1=mean[:count].view(1, *size1, 3).expand(batch, -1, -1, -1),
            pointmap2=mean[count:].view(1, *size2, 3).expand(batch, -1, -1, -1),
        )
        return pointmap_errors(outputs, target)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each sample's values `(B, H, W)` where the mask holds, `(B,)`."""
    counts = mask.flatten(1).sum(1).clamp(min=1)
    return torch.where(mask, values, 0.0).flatten(1).sum(1) / counts


def _normalised(target: StereoTarget) -> tuple[Tensor, Tensor]:
    """True points in camera 1, divided by their mean distance to it."""
    points1, points2 = target.in_camera1()
    distances = [torch.linalg.vector_norm(p, dim=-1).flatten(1).sum(1) for p in (points1, points2)]
    counts = target.valid1.flatten(1).sum(1) + target.valid2.flatten(1).sum(1)
    scale = (distances[0] + distances[1]) / counts.clamp(min=1)
    scale = scale.clamp(min=1e-8)[:, None, None, None]
    return points1 / scale, points2 / scale


def _row(batch: Batch, outputs: StereoOutput, index: int) -> list[NDArray[np.uint8]]:
    target = StereoTarget.from_batch(batch)
    true = [points[index, ..., 2] for points in _normalised(target)]
    valid = [target.valid1[index], target.valid2[index]]
    assert outputs.pointmap1 is not None and outputs.pointmap2 is not None
    found = [outputs.pointmap1[index].float(), outputs.pointmap2[index].float()]
    used = torch.cat([f[v] for f, v in zip(found, valid, strict=True)])
    scale = torch.linalg.vector_norm(used, dim=-1).mean().clamp(min=1e-8)
    panels = [pictures.image(batch[f"pixel_values{view}"][index]) for view in (1, 2)]
    top = max(float(t[v].max()) if bool(v.any()) else 1.0 for t, v in zip(true, valid, strict=True))
    for depth, mask in zip(true, valid, strict=True):
        panels.append(pictures.heat(depth, 0, top, mask))
    for points in found:
        panels.append(pictures.heat(points[..., 2] / scale, 0, top))
    for confidence in (outputs.confidence1, outputs.confidence2):
        if confidence is not None:
            panels.append(pictures.heat(confidence[index].float().log(), 0, 3))
    return panels
