"""Time and memory of a training step, against the obvious implementation.

The step is encoder, decoders, linear heads, confidence loss, clipping and AdamW, on pairs in both
orders. The baseline is plain PyTorch: attention as the softmax of a product, both images encoded
for every pair, float32, `torch.optim.AdamW` with its defaults (`benchmarks/baseline.py`). Ours is
`croco3d.training`'s own step. Each variant runs in processes of its own, so that its peak memory
is its own; variants take turns over the rounds, so that all see the same load of the machine; the
times are medians over all timed steps. Prints one line of JSON:

    python benchmarks/training.py --size 224 --batch 2
"""

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BASELINE = "plain"
VARIANTS = {
    # name: (activation checkpointing, precision)
    "float32": (False, "no"),
    "float32 checkpointed": (True, "no"),
    "bf16_weights": (False, "bf16_weights"),
    "bf16_weights checkpointed": (True, "bf16_weights"),
    "bf16": (False, "bf16"),
    "bf16 checkpointed": (True, "bf16"),
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.worker:
        work(arguments)
        return
    names = arguments.variants or [BASELINE, *VARIANTS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    sys.stdout.write(json.dumps(report(arguments, found)) + "\n")


def report(arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    import torch

    figures = {name: summarise(runs) for name, runs in found.items()}
    plain = figures.get(BASELINE)
    for values in figures.values() if plain else ():
        assert plain is not None
        values["speedup_wall"] = plain["wall_s"] / values["wall_s"]
        values["speedup_cpu"] = plain["cpu_s"] / values["cpu_s"]
        values["memory_over_plain"] = values["activation_gb"] / plain["activation_gb"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "benchmark": "training step: encoder, decoders, linear heads, loss, clipping, AdamW",
        "pairs": f"{2 * arguments.batch}: {arguments.batch} in both orders",
        "model": arguments.model,
        "depths_divided_by": arguments.shallow,
        "size": arguments.size,
        "timed_steps": arguments.rounds * arguments.steps,
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "variants": {
            name: {key: float(f"{value:.4g}") for key, value in values.items()}
            for name, values in figures.items()
        },
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Medians of the steps' seconds; the largest peak; the loss of the first step."""
    return {
        "wall_s": statistics.median(s for run in runs for s in run["wall"]),
        "cpu_s": statistics.median(s for run in runs for s in run["cpu"]),
        "state_gb": runs[0]["state"] / 1e9,
        "activation_gb": max(run["peak"] - run["state"] for run in runs) / 1e9,
        "first_loss": runs[0]["loss"],
    }


def work(arguments: argparse.Namespace) -> None:
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.worker == BASELINE:
            one_step, state = plain_step(arguments)
        else:
            one_step, state = own_step(arguments, folder)
        losses, walls, processors = [], [], []
        for _ in range(1 + arguments.steps):
            reset_peak()
            wall, processor = time.perf_counter(), time.process_time()
            losses.append(one_step())
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
        # The first step warms up, and allocates the optimizer's state.
        found = {"wall": walls[1:], "cpu": processors[1:], "loss": losses[0]}
        found |= {"peak": peak() - before, "state": state()}
        sys.stdout.write(json.dumps(found) + "\n")


def own_step(
    arguments: argparse.Namespace, folder: str
) -> tuple[Callable[[], float], Callable[[], int]]:
    from croco3d.training import options, setup, step
    from croco3d.training.config import TrainConfig

    checkpointing, precision = VARIANTS[arguments.worker]
    raw = {
        "output": folder,
        "steps": 10_000,
        "task": {"name": "stereo"},
        "model": {"name": "dust3r", "config": model_config(arguments)},
        "data": {"train": [{"reader": "none"}], "batch_size": arguments.batch},
        "runtime": {"precision": precision, "activation_checkpointing": checkpointing},
        "monitoring": {"progress": False},
    }
    run = setup(options.parse(TrainConfig, raw))
    batch = random_batch(arguments.batch, arguments.size)
    return lambda: float(step(run, [batch])["loss"]), lambda: state_bytes(run.model, run.optimizer)


def plain_step(arguments: argparse.Namespace) -> tuple[Callable[[], float], Callable[[], int]]:
    import torch
    from baseline import predict

    from croco3d.data import symmetrize
    from croco3d.losses import ConfidenceLoss, StereoTarget
    from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
    from croco3d.modeling.outputs import StereoOutput

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    with torch.device(device):
        model = Dust3rForStereo(Dust3rConfig(**model_config(arguments))).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-8, (0.9, 0.95), weight_decay=0.05)
    batch = symmetrize(random_batch(arguments.batch, arguments.size))
    batch = {name: value.to(device) for name, value in batch.items()}
    loss_of = ConfidenceLoss()

    def one_step() -> float:
        found = predict(model, batch["pixel_values1"], batch["pixel_values2"])
        names = ("pointmap1", "pointmap2", "confidence1", "confidence2")
        outputs = StereoOutput(**dict(zip(names, found, strict=True)))
        loss = loss_of(outputs, StereoTarget.from_batch(batch)).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return one_step, lambda: state_bytes(model, optimizer)


def state_bytes(model: Any, optimizer: Any) -> int:
    """Bytes of weights, gradients and the optimizer's state."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimized = getattr(optimizer, "optimizer", optimizer).state.values()
    tensors: Iterator[Any] = (t for state in optimized for t in state.values())
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *tensors))
    return held + sum(p.numel() * p.element_size() for p in trained)


def resident(which: str) -> float:
    """Bytes of this process: on a GPU its allocator's, else resident (`VmRSS`, `VmHWM`)."""
    import torch

    if torch.cuda.is_available():
        peak_of = {"VmRSS": torch.cuda.memory_allocated, "VmHWM": torch.cuda.max_memory_allocated}
        return float(peak_of[which]())
    import croco3d.training  # noqa: F401  (counted before, so that it is not counted as the step's)

    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def peak() -> float:
    return resident("VmHWM")


def reset_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        # Pages that the C library keeps after a free are not what the step needs.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def model_config(arguments: argparse.Namespace) -> dict[str, Any]:
    small = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    parts: dict[str, Any] = {
        "encoder_config": {"model_type": "croco3d_croco_encoder"},
        "decoder_config": {"model_type": "croco3d_pair_decoder"},
        "head_config": {"model_type": "croco3d_linear_head"},
        "image_size": arguments.size,
    }
    if arguments.model == "small":
        parts["encoder_config"] |= small
        parts["decoder_config"] |= {**small, "num_hidden_layers": 4}
    elif arguments.shallow > 1:
        parts["encoder_config"]["num_hidden_layers"] = 24 // arguments.shallow
        parts["decoder_config"]["num_hidden_layers"] = 12 // arguments.shallow
    return parts


def random_batch(pairs: int, size: int) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    batch: dict[str, Any] = {}
    pose = torch.eye(4).repeat(pairs, 1, 1)
    for view in (1, 2):
        pixels = torch.rand(pairs, 3, size, size, generator=generator)
        points = torch.rand(pairs, size, size, 3, generator=generator)
        batch[f"pixel_values{view}"] = pixels * 2 - 1
        batch[f"pointmap{view}"] = points + torch.tensor([0.0, 0.0, 1.0])
        batch[f"valid{view}"] = torch.ones(pairs, size, size, dtype=torch.bool)
        batch[f"cam2world{view}"] = pose
    return batch


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["large", "small"], default="large")
    parser.add_argument(
        "--shallow", type=int, default=1, help="divide the large model's depths by this"
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2, help="pairs, before both orders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each process")
    parser.add_argument("--variants", nargs="*", choices=[BASELINE, *VARIANTS])
    parser.add_argument("--worker", choices=[BASELINE, *VARIANTS], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
