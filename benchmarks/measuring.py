"""What the benchmarks share: interleaved timing, rates, the official architecture."""

import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from croco3d import Dust3rForStereo
from croco3d.modeling.dust3r import Dust3rConfig
from croco3d.modeling.heads import DptHeadConfig, LinearHeadConfig
from croco3d.modeling.inference.packed import PackedLinear

HEADS = {"dpt": DptHeadConfig, "linear": LinearHeadConfig}


def official_model(head: str, seed: int = 0) -> Dust3rForStereo:
    """Builds the published architecture (ViT-L, base decoder) with fresh weights."""
    torch.manual_seed(seed)
    return Dust3rForStereo(Dust3rConfig(head_config=HEADS[head]())).eval()


def random_images(count: int, height: int, width: int) -> torch.Tensor:
    """Draws `(count, 3, height, width)` in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def product(dtype: torch.dtype, size: int = 2048) -> Callable[[], object]:
    """Returns a call that runs one square product through oneDNN with prepacked weights."""
    layer = PackedLinear(torch.nn.Linear(size, size, bias=False).to(dtype).requires_grad_(False))
    x = torch.randn(size, size).to(dtype)
    return lambda: layer(x)


def gflop(
    predict: Callable[..., object], model: torch.nn.Module, images: Sequence[torch.Tensor]
) -> float:
    """Counts the work of the products and convolutions of `predict(model, *images)`.

    Returns:
        10**9 operations.
    """
    shapes = copy.deepcopy(model).to("meta")
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        predict(shapes, *(image.to("meta") for image in images))
    return counter.get_total_flops() / 1e9


def interleave(
    functions: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Runs all functions in turn, several times over.

    Args:
        functions: what to time, by name.
        repeats: measured rounds.
        warmup: rounds before, not measured.

    Returns:
        for each name the median seconds by the clock (`wall_s`) and of the processor (`cpu_s`,
        all threads together), which other programs on the machine disturb less; and what each
        returned last.
    """
    results: dict[str, Any] = {}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    with torch.inference_mode():
        for turn in range(-warmup, repeats):
            for name, function in functions.items():
                wall, cpu = time.perf_counter(), time.process_time()
                results[name] = function()
                if turn >= 0:
                    passed = (time.perf_counter() - wall, time.process_time() - cpu)
                    seconds[name].append(passed)
    medians = {
        name: {
            "wall_s": statistics.median(wall for wall, _ in runs),
            "cpu_s": statistics.median(cpu for _, cpu in runs),
        }
        for name, runs in seconds.items()
    }
    return medians, results


def ratios(slow: Mapping[str, float], fast: Mapping[str, float]) -> dict[str, float]:
    """Says how many times faster `fast` is, by the clock and of the processor's time."""
    return {
        "speedup_wall": slow["wall_s"] / fast["wall_s"],
        "speedup_cpu": slow["cpu_s"] / fast["cpu_s"],
    }


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """Returns the norm of the difference over the norm of the truth."""
    return float((value.float() - truth.float()).norm() / truth.float().norm())


def report(**values: Any) -> None:
    """Prints one JSON line, numbers to four digits."""
    rounded = {
        key: float(f"{value:.4g}") if isinstance(value, float) else value
        for key, value in values.items()
    }
    print(json.dumps({**rounded, "threads": torch.get_num_threads()}), flush=True)  # noqa: T201
