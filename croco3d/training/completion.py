"""The completion task (CroCo): hidden patches of a view from the rest and a second view."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn

from croco3d.evaluation.pictures import grid, image
from croco3d.losses import LossResult
from croco3d.modeling.layers import unpatchify
from croco3d.modeling.outputs import CompletionOutput

from .tasks import Batch, Task, first_samples


@dataclass(kw_only=True)
class CompletionTask(Task, name="completion"):
    """Fill in what is hidden of view 1. The masking is the model's."""

    monitor: ClassVar[str] = "pixels"

    def loss(self, model: nn.Module, batch: Batch, progress: float) -> LossResult:
        """Complete view 1 and compare with it."""
        outputs: CompletionOutput = model(batch["pixel_values1"], batch["pixel_values2"])
        assert outputs.loss is not None
        return LossResult(outputs.loss)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Measure a batch: squared error over hidden patches (`pixels`), scaled as in the loss.

        `pixels_flat` is that of filling each patch with its own true mean.
        """
        outputs: CompletionOutput = model(batch["pixel_values1"], batch["pixel_values2"])
        assert outputs.prediction is not None and outputs.target is not None
        assert outputs.mask is not None
        mean, deviation = _patch_statistics(outputs.target)
        flat, found = outputs.target - mean, outputs.prediction.float()
        if _normalises(model):
            flat = flat / deviation
            error = found - flat
        else:
            error = found - outputs.target
        count = outputs.mask.sum(1)
        return {
            "pixels": (error.square().mean(-1) * outputs.mask).sum(1) / count,
            "pixels_flat": (flat.square().mean(-1) * outputs.mask).sum(1) / count,
        }

    def picture(self, model: nn.Module, batch: Batch, count: int) -> NDArray[np.uint8]:
        """Draw view 1, what was shown of it, its completion, and view 2, one pair a row."""
        some = first_samples(batch, count)
        outputs: CompletionOutput = model(some["pixel_values1"], some["pixel_values2"])
        assert outputs.prediction is not None and outputs.target is not None
        assert outputs.mask is not None
        found = outputs.prediction.float()
        if _normalises(model):
            mean, deviation = _patch_statistics(outputs.target)
            found = found * deviation + mean
        hidden = outputs.mask[..., None]
        height, width = some["pixel_values1"].shape[-2:]
        patch = extract_model_from_parallel(model).encoder.patch_size
        cells = (height // patch, width // patch)
        shown = unpatchify(torch.where(hidden, 0.0, outputs.target), patch, cells)
        filled = unpatchify(torch.where(hidden, found, outputs.target), patch, cells)
        columns = (some["pixel_values1"], shown, filled, some["pixel_values2"])
        rows = zip(*columns, strict=True)
        return grid([[image(panel) for panel in row] for row in rows])


def _normalises(model: nn.Module) -> bool:
    config: Any = extract_model_from_parallel(model).config
    return config.norm_pix_loss


def _patch_statistics(target: Tensor) -> tuple[Tensor, Tensor]:
    mean = target.mean(-1, keepdim=True)
    return mean, (target.var(-1, keepdim=True) + 1e-6).sqrt()
