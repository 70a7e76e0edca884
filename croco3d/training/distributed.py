"""What the processes of a run agree on."""

import os
from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from .config import TrainConfig
from .tracking import make_trackers


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Start accelerate for a run: precision, accumulation, trackers.

    What the launcher configured (FSDP, DeepSpeed, number of processes) comes from the environment.
    """
    runtime = config.runtime
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    autocast = runtime.precision in ("bf16", "fp16")
    ddp = DistributedDataParallelKwargs(find_unused_parameters=runtime.find_unused_parameters)
    accelerator = Accelerator(
        cpu=runtime.cpu,
        mixed_precision=runtime.precision if autocast else "no",
        gradient_accumulation_steps=runtime.accumulate,
        log_with=make_trackers(config),
        project_dir=config.output,
        kwargs_handlers=[ddp],
    )
    _check_processes(accelerator)
    if accelerator.state.deepspeed_plugin is not None:
        _complete_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config, config)
    if is_sharded(accelerator) and runtime.precision == "bf16_weights":
        raise ValueError(
            f"runtime.precision 'bf16_weights' keeps its own masters, which "
            f"{accelerator.distributed_type} cannot shard; use 'bf16'"
        )
    if is_sharded(accelerator) and config.optimizer.name == "muon":
        raise ValueError(
            f"optimizer 'muon' needs whole matrices, of which {accelerator.distributed_type} gives "
            "a process only parts; set optimizer.name=adamw"
        )
    return accelerator


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's chance (masks, dropout) anew for one step of one process."""
    drawn = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(drawn[0]) >> 1)


def all_finite(accelerator: Accelerator, value: Tensor) -> bool:
    """Whether a value is finite on every process."""
    broken = (~torch.isfinite(value.detach())).float().sum()
    return not bool(accelerator.reduce(broken, "sum"))


def mean_over_processes(accelerator: Accelerator, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Average values, NaN left out, over all processes, which must hold the same names."""
    if not values:
        return {}
    names = sorted(values)
    known = [values[name][~values[name].isnan()] for name in names]
    table = torch.stack(
        [torch.stack((v.float().sum(), v.new_tensor(len(v)).float())) for v in known]
    )
    total = accelerator.reduce(table.to(accelerator.device), "sum")
    assert isinstance(total, Tensor)
    return {name: float(row[0] / row[1]) for name, row in zip(names, total, strict=True)}


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether processes hold parts of the model, so that only all together can run it."""
    return accelerator.distributed_type.name not in _REPLICATED


def steps_in_backward(accelerator: Accelerator) -> bool:
    """Whether the last backward pass makes the step, unless the gradient is not finite."""
    return accelerator.distributed_type.name == "DEEPSPEED"


# Accelerate's names of the ways to run that hold the whole model on every process.
_REPLICATED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU")


def _check_processes(accelerator: Accelerator) -> None:
    """Refuse to run alone among processes that were started together.

    Without a GPU accelerate joins them only if told to stay on the CPU; they would otherwise all
    make the same run and write to the same folder.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but each would run by itself on "
            f"{accelerator.device}: there is no GPU for them. Set runtime.cpu=true to train on "
            "CPUs (FSDP and DeepSpeed need GPUs)"
        )


def _complete_deepspeed(settings: dict, config: TrainConfig) -> None:
    if config.ema is not None and settings["zero_optimization"]["stage"] == 3:
        raise ValueError(
            "ema follows weights, of which a process holds none under DeepSpeed's stage 3; set "
            "ema=null, or use stage 2 or FSDP"
        )
    # accelerate reads these from a prepared loader, and ours is not prepared.
    settings["train_micro_batch_size_per_gpu"] = config.data.batch_size
    settings["gradient_accumulation_steps"] = config.runtime.accumulate
    if config.optimizer.clip is not None:
        settings["gradient_clipping"] = config.optimizer.clip
    if config.runtime.precision == "bf16":
        # DeepSpeed's own bfloat16 would hold all weights in it, those of the heads too.
        settings["bf16"] = {"enabled": False}
        settings["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    elif config.runtime.precision == "fp16":
        raise ValueError("runtime.precision 'fp16' does not run under DeepSpeed; use 'bf16'")
