"""The stereo task (DUSt3R): pointmaps of two views from posed images with depth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from croco3d.evaluation import MeanPointmap, StereoEstimate, pointmap_error
from croco3d.evaluation.pictures import draw_pair, grid
from croco3d.geometry import pose_from_both_orders, relative_pose, rotation_angle
from croco3d.losses import LossResult, StereoTarget
from croco3d.modeling.outputs import StereoOutput

from .tasks import Batch, Task, batch_size, first_samples, to_device
from .terms import ConfidenceTerm, LossTerm, combine

# Enough for validation while training; `croco3d evaluate` takes more.
PIXELS_FOR_POSES = 300


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
        pairs under 5 and 15 degrees of each, by `pose_from_both_orders` on a few pixels.
        """
        outputs, target = self._predict(model, batch), StereoTarget.from_batch(batch)
        metrics = pointmap_errors(outputs, target)
        if self.symmetrize:
            metrics |= rotation_errors(outputs, batch)
        return metrics

    def picture(self, model: nn.Module, batch: Batch, count: int) -> NDArray[np.uint8]:
        """Draw images, true and predicted depth, and confidence, one pair below the other."""
        every = 2 if self.symmetrize else 1
        some = first_samples(batch, min(every * count, batch_size(batch)))
        outputs = self._predict(model, some)
        return grid([[_drawn(some, outputs, i)] for i in range(0, batch_size(some), every)])

    def baselines(self, batches: Callable[[], Iterable[Batch]]) -> dict[str, Tensor]:
        """Measure the mean pointmap of the validation pairs themselves."""
        mean = MeanPointmap()
        for batch in batches():
            mean.add(StereoTarget.from_batch(batch))
        own, mean.sums = mean.sums, {}
        for sums in gather_object([own]):
            mean.merge(sums)
        errors = [_errors_of_mean(mean, StereoTarget.from_batch(batch)) for batch in batches()]
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
    assert outputs.pointmap1 is not None and outputs.pointmap2 is not None
    error = pointmap_error(
        outputs.pointmap1,
        outputs.pointmap2,
        *target.in_camera1(),
        target.valid1,
        target.valid2,
    )
    return {"pointmap": error.mean, "pointmap1": error.view1, "pointmap2": error.view2}


def rotation_errors(outputs: StereoOutput, batch: Batch) -> dict[str, Tensor]:
    """Rotation error in degrees, and shares under 5 and 15, of a symmetrised batch, `(B,)`."""
    assert outputs.pointmap1 is not None and outputs.pointmap2 is not None
    own1, seen2 = outputs.pointmap1.float(), outputs.pointmap2.float()
    weights1, weights2 = None, None
    if outputs.confidence1 is not None and outputs.confidence2 is not None:
        weights1 = outputs.confidence1 * _swapped(outputs.confidence2)
        weights2 = outputs.confidence2 * _swapped(outputs.confidence1)
    height, width = own1.shape[1:3]
    stride = max(round((height * width / PIXELS_FOR_POSES) ** 0.5), 1)
    fitted = pose_from_both_orders(
        own1, seen2, _swapped(own1), _swapped(seen2), weights1, weights2, stride
    ).rotation
    true = relative_pose(batch["cam2world1"], batch["cam2world2"])[:, :3, :3]
    identity = torch.eye(3, device=true.device).expand_as(true)
    metrics = {}
    for suffix, rotation in (("", fitted), ("_identity", identity)):
        angle = rotation_angle(rotation.float(), true.float())
        metrics[f"rotation{suffix}"] = angle
        for limit in (5, 15):
            metrics[f"rra{limit}{suffix}"] = (angle < limit).float()
    return metrics


def _swapped(values: Tensor) -> Tensor:
    """What the pair in the other order has, of a symmetrised batch."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _errors_of_mean(mean: MeanPointmap, target: StereoTarget) -> dict[str, Tensor]:
    views = (target.valid1, target.valid2)
    found = mean.maps((tuple(views[0].shape[1:]), tuple(views[1].shape[1:])))
    pointmap1, pointmap2 = (
        points.to(valid.device).expand(*valid.shape, 3)
        for points, valid in zip(found[:2], views, strict=True)
    )
    return pointmap_errors(StereoOutput(pointmap1=pointmap1, pointmap2=pointmap2), target)


def _drawn(batch: Batch, outputs: StereoOutput, index: int) -> NDArray[np.uint8]:
    sample = {key: value[index] for key, value in to_device(batch, torch.device("cpu")).items()}
    names = ("pointmap1", "pointmap2", "confidence1", "confidence2")
    found = {name: getattr(outputs, name) for name in names}
    estimate = StereoEstimate(
        **{name: None if value is None else value[index].cpu() for name, value in found.items()}
    )
    caption = " ".join(str(sample.get(key, "")) for key in ("dataset", "name1", "name2"))
    return draw_pair(estimate, sample, caption)
