"""Several processes that predict one scene's pairs, as accelerate or torchrun start them."""

from __future__ import annotations

import os
from datetime import timedelta

# Shares take unequal time; the launcher ends all processes if one fails, so nobody waits in vain.
PATIENCE = timedelta(days=7)


def process_count() -> int:
    """How many processes there are, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def process_rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK") or 0)


def own_device(device: str) -> str:
    """The device of this process: of several, each takes a GPU of its own where "cuda" is wanted.

    Args:
        device: A torch device; with an index it is left as it is.
    """
    if device != "cuda" or process_count() == 1:
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK') or process_rank()}"


def meet() -> None:
    """Wait until all processes have come here; nothing to do for one alone."""
    if process_count() == 1:
        return
    from torch import distributed

    if not distributed.is_initialized():
        # Only the meeting goes through it, so GPUs need nothing faster.
        distributed.init_process_group("gloo", timeout=PATIENCE)
    distributed.barrier()
