"""What a run shows while it goes on: a bar, and averages since the last line of the log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm


class Progress:
    """Averages figures between log lines, measures pairs a second, and draws a bar.

    The time of validations and checkpoints does not count.

    Args:
        accelerator: the bar is the main process's.
        done: steps made already.
        steps: steps of the run.
        show: whether to draw the bar where standard error is a terminal.
    """

    def __init__(self, accelerator: Accelerator, done: int, steps: int, show: bool) -> None:
        hidden = not (show and accelerator.is_main_process and sys.stderr.isatty())
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=hidden)
        self._processes = accelerator.num_processes
        self._reset()

    def add(self, figures: dict[str, Tensor], pairs: int) -> None:
        """Take up a step and the pairs that this process saw in it."""
        self._pairs += pairs * self._processes
        for name, value in figures.items():
            self._figures.setdefault(name, []).append(value)
        if not self._bar.disable and self._bar.n + 1 < self._bar.total:
            rate = self._pairs / max(time.perf_counter() - self._since, 1e-9)
            loss = float(figures.get("loss", float("nan")))
            self._bar.set_postfix_str(f"{rate:.1f} pairs/s, loss {loss:.4f}", refresh=False)
        self._bar.update()

    def flush(self) -> dict[str, float]:
        """Give pairs a second and means since the last call; skipped steps do not count."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        means = {
            name: float(torch.stack([v.cpu() for v in values]).double().nanmean())
            for name, values in self._figures.items()
        }
        rate = self._pairs / seconds
        self._reset()
        return {**means, "pairs_per_second": rate}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a `with` block out."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _reset(self) -> None:
        self._figures: dict[str, list[Tensor]] = {}
        self._pairs = 0
        self._since = time.perf_counter()
