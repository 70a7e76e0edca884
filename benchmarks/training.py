"""Samples a second and peak memory of a training step, against eager attention.

Each variant runs in processes of its own, so that its peak memory is its own; variants take turns
over several rounds, so that all see the same load of the machine; the figures are medians over all
timed steps. Prints one line of JSON:

    python benchmarks/training.py --size 224 --batch 2
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

BASELINE = "eager"
VARIANTS = {
    # name: (attention, activation checkpointing, precision)
    "eager": ("eager", False, "no"),
    "sdpa": ("sdpa", False, "no"),
    "sdpa+checkpointing": ("sdpa", True, "no"),
    "eager+bf16_weights": ("eager", False, "bf16_weights"),
    "eager+bf16_weights+checkpointing": ("eager", True, "bf16_weights"),
    "sdpa+bf16": ("sdpa", False, "bf16"),
    "sdpa+bf16+checkpointing": ("sdpa", True, "bf16"),
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        work(arguments)
        return
    names = arguments.variants or list(VARIANTS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = dict.fromkeys(names, 0.0)
    for _ in range(arguments.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            seconds[name] += found["seconds"]
            peaks[name] = max(peaks[name], found["peak"])
    sys.stdout.write(json.dumps(report(arguments, seconds, peaks)) + "\n")


def report(arguments: argparse.Namespace, seconds: dict, peaks: dict) -> dict[str, Any]:
    import torch

    pairs = 2 * arguments.batch
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base_time, base_peak = medians.get(BASELINE), peaks.get(BASELINE)
    variants = {
        name: {
            "seconds_a_step": round(medians[name], 4),
            "pairs_a_second": round(pairs / medians[name], 3),
            "peak_gb": round(peaks[name] / 1e9, 2),
            "speed_over_eager": round(base_time / medians[name], 3) if base_time else None,
            "memory_over_eager": round(peaks[name] / base_peak, 3) if base_peak else None,
        }
        for name in seconds
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return {
        "benchmark": "training step, encoder, decoders, linear heads, loss, AdamW",
        "pairs": f"{arguments.batch} pairs in both orders, each image encoded once",
        "model": arguments.model,
        "size": arguments.size,
        "timed_steps": arguments.rounds * arguments.steps,
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "variants": variants,
    }


def work(arguments: argparse.Namespace) -> None:
    steps = make_steps(arguments)
    next(steps)  # warms up, and allocates the optimizer's state
    seconds, peak = [], 0.0
    for _ in range(arguments.steps):
        began = time.perf_counter()
        peak = next(steps)
        seconds.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak}) + "\n")


def make_steps(arguments: argparse.Namespace) -> Iterator[float]:
    import torch

    from croco3d.training import Run, options, setup, step
    from croco3d.training.config import TrainConfig

    attention, checkpointing, precision = VARIANTS[arguments.worker]
    config = options.parse(
        TrainConfig,
        {
            "output": arguments.scratch,
            "steps": 10_000,
            "task": {"name": "stereo"},
            "model": {
                "name": "dust3r",
                "attention": attention,
                "config": model_config(arguments),
            },
            "data": {"train": [{"reader": "none"}], "batch_size": arguments.batch},
            "runtime": {"precision": precision, "activation_checkpointing": checkpointing},
            "monitoring": {"progress": False},
        },
    )
    run: Run = setup(config)
    torch.manual_seed(0)
    batch = random_batch(arguments.batch, arguments.size)
    while True:
        step(run, [batch])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            yield float(torch.cuda.max_memory_allocated())
        else:
            yield resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def model_config(arguments: argparse.Namespace) -> dict[str, Any]:
    small = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    parts = {
        "encoder_config": {"model_type": "croco3d_croco_encoder"},
        "decoder_config": {"model_type": "croco3d_pair_decoder"},
        "head_config": {"model_type": "croco3d_linear_head"},
        "image_size": arguments.size,
    }
    if arguments.model == "small":
        parts["encoder_config"] |= small
        parts["decoder_config"] |= {**small, "num_hidden_layers": 4}
    return parts


def random_batch(pairs: int, size: int) -> dict[str, Any]:
    import torch

    batch: dict[str, Any] = {}
    pose = torch.eye(4).repeat(pairs, 1, 1)
    for view in (1, 2):
        batch[f"pixel_values{view}"] = torch.rand(pairs, 3, size, size) * 2 - 1
        batch[f"pointmap{view}"] = torch.rand(pairs, size, size, 3) + torch.tensor([0.0, 0.0, 1.0])
        batch[f"valid{view}"] = torch.ones(pairs, size, size, dtype=torch.bool)
        batch[f"cam2world{view}"] = pose
    return batch


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["large", "small"], default="large")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2, help="pairs, before both orders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each process")
    parser.add_argument("--scratch", default="/tmp/croco3d-benchmark")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS))
    parser.add_argument("--worker", choices=list(VARIANTS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
