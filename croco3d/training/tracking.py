"""Trackers, among them one that writes lines of JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import GeneralTracker, on_main_process
from numpy.typing import NDArray

from croco3d.files import atomic_path

from .config import TrainConfig

METRICS_FILE = "metrics.jsonl"


class JsonLinesTracker(GeneralTracker):
    """Writes one JSON object a line: `{"step": 20, "train/loss": 0.41, ...}`.

    Args:
        path: the file; lines are added to it.
    """

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.path

    def store_init_configuration(self, values: dict) -> None:
        """Leave the configuration to `config.yaml`."""

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs: Any) -> None:
        """Add a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def rewind(path: Path, step: int) -> None:
    """Drop lines after `step`, and one that was cut off: a resumed run writes them again."""
    if not path.is_file():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _until(line, step)]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def make_trackers(config: TrainConfig) -> list[Any]:
    """Give the trackers of a run, as accelerate takes them."""
    return [JsonLinesTracker(Path(config.output) / METRICS_FILE), *config.monitoring.trackers]


def log_picture(
    trackers: list[GeneralTracker], name: str, picture: NDArray[np.uint8], step: int
) -> None:
    """Hand a picture `(H, W, 3)` to the trackers that can show one."""
    shown = {"tensorboard": {"dataformats": "NHWC"}, "wandb": {}, "clearml": {}}
    for tracker in trackers:
        if getattr(tracker, "name", "") in shown:
            tracker.log_images({name: picture[None]}, step=step, **shown[tracker.name])  # pyright: ignore[reportAttributeAccessIssue]


def _until(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (json.JSONDecodeError, KeyError, TypeError):
        return False
