"""What the model card says of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from croco3d.hub import TrainingFacts

from .tracking import METRICS_FILE

if TYPE_CHECKING:
    from .loop import Run

_VALIDATION = "validation/"


def training_facts(run: "Run") -> TrainingFacts:
    """Collect data, recipe and the last validation of a run.

    Of folders only the last name is told: paths are nobody else's business.
    """
    return TrainingFacts(
        data=list(dict.fromkeys(_name(entry) for entry in run.config.data.train)),
        recipe=_recipe(run),
        figures=_last_validation(run.output / METRICS_FILE),
    )


def _recipe(run: "Run") -> dict[str, Any]:
    config, optimizer = run.config, run.config.optimizer
    pairs = config.data.batch_size * run.accelerator.num_processes * config.runtime.accumulate
    start = config.model.pretrained or config.model.init_from
    recipe = {
        "steps": config.steps,
        "pairs a step": pairs,
        "resolution": config.data.resolution,
        "learning rate": f"{optimizer.learning_rate:g} to {optimizer.least:g}, cosine after "
        f"{optimizer.warmup:.0%} warm-up",
        "AdamW": f"betas {optimizer.betas}, weight decay {optimizer.weight_decay:g}",
        "moving average of the weights": config.ema,
        "precision": config.runtime.precision,
        "seed": config.seed,
        "started from": start and (Path(start).name if Path(start).exists() else start),
        "frozen": ", ".join(config.model.freeze),
        "LoRA rank (merged)": config.model.lora and config.model.lora.rank,
    }
    return {key: value for key, value in recipe.items() if value not in (None, "")}


def _name(entry: dict[str, Any]) -> str:
    root = entry.get("root")
    return f"{entry['reader']} ({Path(root).name})" if root else str(entry["reader"])


def _last_validation(path: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        values = json.loads(line)
        measured = {
            key.removeprefix(_VALIDATION): value
            for key, value in values.items()
            if key.startswith(_VALIDATION)
        }
        figures = measured or figures
    return figures
