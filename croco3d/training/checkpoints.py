"""Checkpoints that are either whole or absent, whenever the process dies.

A checkpoint is written to a folder of another name, which takes its final name by one rename
once every process has finished writing.
"""

import logging
import os
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator

logger = logging.getLogger(__name__)

_PREFIX = "step-"
_UNFINISHED = "unfinished-"


def folder_of(root: Path, step: int) -> Path:
    """Name the folder of a step's checkpoint."""
    return root / f"{_PREFIX}{step:08d}"


def latest(root: Path) -> Path | None:
    """Find the newest whole checkpoint, if there is one."""
    return max(root.glob(f"{_PREFIX}*"), default=None)


def write(accelerator: Accelerator, root: Path, step: int, extra: dict, keep: int) -> Path:
    """Save model, optimizer, scaler and `extra` of every process, then drop old checkpoints.

    Args:
        accelerator: has prepared the model and the optimizer.
        root: folder of all checkpoints of the run.
        step: how many steps have been made.
        extra: this process's own state, saved with `torch.save`.
        keep: how many checkpoints stay.

    Returns:
        The folder of the new checkpoint.
    """
    unfinished, final = root / f"{_UNFINISHED}{step:08d}", folder_of(root, step)
    if accelerator.is_main_process:
        _remove_unfinished(root)
        unfinished.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    torch.save(extra, unfinished / _extra_name(accelerator))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            shutil.rmtree(final)
        os.rename(unfinished, final)
        _prune(root, keep)
    accelerator.wait_for_everyone()
    return final


def read(accelerator: Accelerator, folder: Path) -> dict:
    """Load a checkpoint into the prepared model, optimizer and scaler.

    Returns:
        What this process gave as `extra`.

    Raises:
        ValueError: if the checkpoint was written by another number of processes.
    """
    written = len(list(folder.glob("process-*.pt")))
    if written != accelerator.num_processes:
        raise ValueError(
            f"{folder} was written by {written} processes, this run has "
            f"{accelerator.num_processes}: start as many, or begin anew with "
            f"model.init_from and another output folder"
        )
    accelerator.load_state(str(folder))
    path = folder / _extra_name(accelerator)
    return torch.load(path, map_location="cpu", weights_only=True)


def _extra_name(accelerator: Accelerator) -> str:
    return f"process-{accelerator.process_index}.pt"


def _remove_unfinished(root: Path) -> None:
    for folder in root.glob(f"{_UNFINISHED}*"):
        logger.info("removing %s, which was cut off", folder.name)
        shutil.rmtree(folder)


def _prune(root: Path, keep: int) -> None:
    for folder in sorted(root.glob(f"{_PREFIX}*"))[:-keep]:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        doomed = folder.with_name(f"{_UNFINISHED}{folder.name}")
        os.rename(folder, doomed)
        shutil.rmtree(doomed)
