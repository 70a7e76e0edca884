"""Models as others load them: in float32, whole, at their final place by one rename."""

import copy
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .distributed import is_sharded
from .facts import training_facts
from .optimizers import masters_of

if TYPE_CHECKING:
    from .loop import Run

logger = logging.getLogger(__name__)


def save_model(run: "Run", folder: Path) -> None:
    """Save the model, or its moving average, as `from_pretrained` loads it. All processes call."""
    accelerator = run.accelerator
    if run.average is None:
        state: Any = accelerator.get_state_dict(run.model)
    else:
        with run.average.applied():
            state = accelerator.get_state_dict(run.model)
    if accelerator.is_main_process:
        precise = _precise(run, accelerator.unwrap_model(run.model))
        _save_whole(_exported(run, {**state, **precise}), folder)
    accelerator.wait_for_everyone()


def finish(run: "Run") -> None:
    """Save the final model, upload it if asked to, and close the trackers."""
    save_model(run, run.output / "last")
    saving, accelerator = run.config.saving, run.accelerator
    if saving.push_to_hub and accelerator.is_main_process:
        model: Any = type(_plain(accelerator.unwrap_model(run.model)))
        logger.info("uploading %s to %s", run.output / "last", saving.push_to_hub)
        trained = model.from_pretrained(run.output / "last")
        facts = training_facts(run)
        trained.push_to_hub(saving.push_to_hub, private=saving.private, facts=facts)
    accelerator.end_training()


def _precise(run: "Run", model: nn.Module) -> dict[str, Tensor]:
    """Float32 values of weights that the model itself holds rounded."""
    if run.config.runtime.precision != "bf16_weights":
        return {}
    if run.average is not None:
        held = zip(run.average.followed, run.average.averages, strict=True)
    else:
        held = masters_of(run.optimizer.optimizer).items()
    values = {id(parameter): value for parameter, value in held}
    named = model.named_parameters()
    return {name: values[id(p)] for name, p in named if id(p) in values}


def _exported(run: "Run", state: dict[str, Tensor]) -> Any:
    """Copy the model with other weights, in float32, adapters merged."""
    if is_sharded(run.accelerator):
        # What is sharded cannot be copied; the same options make the same modules.
        exported = run.config.model.build(weights=False)
    else:
        exported = copy.deepcopy(run.accelerator.unwrap_model(run.model)).float()
    exported.load_state_dict(state)
    if hasattr(exported, "merge_and_unload"):
        exported = exported.merge_and_unload()  # pyright: ignore[reportCallIssue]
    return exported


def _plain(model: nn.Module) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore[reportCallIssue]


def _save_whole(model: Any, folder: Path) -> None:
    unfinished = folder.with_name(f"unfinished-{folder.name}")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    model.save_pretrained(unfinished)
    former = folder.with_name(f"unfinished-former-{folder.name}")
    if former.exists():
        shutil.rmtree(former)
    if folder.exists():
        os.rename(folder, former)
    os.rename(unfinished, folder)
    if former.exists():
        shutil.rmtree(former)
