"""What happens where a loss or a gradient is not finite."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from croco3d.files import atomic_path

from .distributed import is_sharded
from .tasks import Batch, one_sample, sample_names

if TYPE_CHECKING:
    from .loop import Run

logger = logging.getLogger(__name__)

_FILES = 20


class TooManySkippedError(RuntimeError):
    """Too many steps in a row had a loss or a gradient that was not finite."""


class SkippedSteps:
    """Counts skipped steps, names the samples behind them and saves their batches.

    Args:
        folder: where batches go, at most 20 of them a run.
        limit: so many skipped steps in a row stop the run.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.in_a_row = 0

    def report(self, run: "Run", batch: Batch, loss: Tensor) -> None:
        """Report a loss that is not finite on some process; all processes call this."""
        if not torch.isfinite(loss.detach()):
            culprits = _culprits(run, batch)
            self._save(run, batch, f"loss {float(loss.detach())}", culprits)

    def accepts(self, run: "Run", norm: Tensor, batches: list[Batch]) -> bool:
        """Whether a gradient of this norm, the same on all processes, may be used.

        Loss scaling of fp16 meets infinite gradients regularly and deals with them itself.
        """
        if run.accelerator.scaler is not None or torch.isfinite(norm):
            return True
        for batch in batches:
            self._save(run, batch, f"gradient norm {float(norm)}", sample_names(batch))
        return False

    def count(self, sound: bool) -> None:
        """Count a step; all processes do so alike.

        Raises:
            TooManySkippedError: if the last steps were all skipped.
        """
        self.in_a_row = 0 if sound else self.in_a_row + 1
        if self.in_a_row >= self.limit:
            raise TooManySkippedError(
                f"{self.in_a_row} steps in a row had a loss or gradient that was not finite; the "
                f"batches are in {self.folder}. Lower the learning rate, or look at the samples "
                "that the log names"
            )

    def _save(self, run: "Run", batch: Batch, reason: str, culprits: list[str]) -> None:
        logger.warning("skipping step %d: %s, samples: %s", run.step, reason, "; ".join(culprits))
        saved = [file.name for file in self.folder.glob("*.pt")]
        if len(saved) >= _FILES:
            return
        stem = f"step-{run.step:08d}-process-{run.accelerator.process_index}"
        # A step accumulated from several batches has as many files.
        name = f"{stem}-{sum(other.startswith(f'{stem}-') for other in saved)}.pt"
        with atomic_path(self.folder / name) as temporary:
            torch.save({"reason": reason, "samples": culprits, "batch": batch}, temporary)


@torch.no_grad()
def _culprits(run: "Run", batch: Batch) -> list[str]:
    """Name the samples whose loss alone is not finite; all of them where that cannot be told."""
    names = sample_names(batch)
    if is_sharded(run.accelerator):
        return names
    model = run.accelerator.unwrap_model(run.model)
    guilty = []
    for index, name in enumerate(names):
        prepared = run.config.task.prepare(one_sample(batch, index, run.accelerator.device))
        loss = run.config.task.loss(model, prepared, run.step / run.config.steps)
        if not torch.isfinite(loss.total):
            guilty.append(name)
    return guilty or names
