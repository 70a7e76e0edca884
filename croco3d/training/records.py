"""What a run leaves in its folder and tells its trackers."""

import logging
import math
from typing import TYPE_CHECKING

from croco3d.evaluation.pictures import save_picture
from croco3d.files import atomic_path

from . import options
from .tracking import METRICS_FILE, log_picture, rewind

if TYPE_CHECKING:
    from .loop import Run
    from .tasks import Batch

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"


def begin(run: "Run") -> None:
    """Save the resolved configuration, drop log lines that will come again, open the trackers."""
    accelerator = run.accelerator
    if accelerator.is_main_process:
        _save_config(run)
        rewind(run.output / METRICS_FILE, run.step)
        trained = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
        logger.info(
            "%s at step %d of %d, %.1f M trainable weights, %d process(es), %s",
            "resuming" if run.step else "starting",
            run.step,
            run.config.steps,
            trained / 1e6,
            accelerator.num_processes,
            accelerator.device,
        )
    accelerator.wait_for_everyone()
    accelerator.init_trackers("croco3d", _flat(options.to_plain(run.config)))


def log(run: "Run", figures: dict[str, float]) -> None:
    """Tell the trackers about training figures."""
    run.accelerator.log({f"train/{name}": v for name, v in figures.items()}, step=run.step)
    if run.accelerator.is_main_process:
        logger.info("step %d: %s", run.step, _listed(figures))


def report(run: "Run", metrics: dict[str, float]) -> None:
    """Tell the trackers and the log about a validation, baselines beside the metrics."""
    if not metrics:
        return
    everything = {**metrics, **run.baselines}
    run.accelerator.log({f"validation/{name}": v for name, v in everything.items()}, step=run.step)
    if run.accelerator.is_main_process:
        logger.info("validation at step %d: %s", run.step, _listed(everything))


def draw(run: "Run", batch: "Batch") -> None:
    """Draw predictions for a prepared batch into the run's folder, and show them to trackers."""
    count = run.config.monitoring.pictures
    if not count:
        return
    picture = run.config.task.picture(run.model, batch, count)
    if not run.accelerator.is_main_process:
        return
    save_picture(picture, run.output / "pictures" / f"step-{run.step:08d}.png")
    log_picture(run.accelerator.trackers, "predictions", picture, run.step)


def _save_config(run: "Run") -> None:
    path = run.output / CONFIG_FILE
    if path.is_file():
        for line in options.changes(options.load(path), options.to_plain(run.config)):
            logger.warning("changed since the run began: %s", line)
    with atomic_path(path) as temporary:
        temporary.write_text(options.to_yaml(run.config), encoding="utf-8")


def _flat(values: object, where: str = "") -> dict[str, int | float | str | bool]:
    if isinstance(values, dict):
        parts = [_flat(v, f"{where}.{k}" if where else str(k)) for k, v in values.items()]
        return {key: value for part in parts for key, value in part.items()}
    return {where: values if isinstance(values, int | float | str | bool) else str(values)}


def _listed(figures: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if not math.isnan(v))
