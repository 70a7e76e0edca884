"""One GPU: pairs through the official DPT architecture in bfloat16, and a scene of 100 images.

    python benchmarks/gpu.py [--compile]

Eager is the obvious implementation (`benchmarks/baseline.py`) under bfloat16 autocast; ours holds
its weights in bfloat16 (`optimize_for_inference`), on request compiled too; then the same captured
once as a CUDA graph and replayed. Prints one JSON line a
batch size, with the rate over that of a large bfloat16 product on the same card, and one for the
scene: every image encoded once, all pairs of a window decoded, predictions brought to memory.
Weights are fresh and the images random; alignment is left out.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from baseline import predict
from measuring import gflop, official_model, random_images, relative_error, report

from croco3d import Dust3rForStereo
from croco3d.scene import make_pairs, predict_pairs

PRODUCT = 8192


def seconds(function: Callable[[], object], repeats: int = 10, warmup: int = 3) -> float:
    """Returns the median seconds of a call, until the GPU is done."""
    passed = []
    for turn in range(-warmup, repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        if turn >= 0:
            passed.append(time.perf_counter() - start)
    return statistics.median(passed)


def product_rate() -> float:
    """Returns TFLOP/s of a square bfloat16 product."""
    a, b = (torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * PRODUCT**3 / seconds(lambda: a @ b) / 1e12


def captured(model: Dust3rForStereo, images: tuple[torch.Tensor, ...]) -> torch.cuda.CUDAGraph:
    """Records a model's kernels for these images; `replay` runs them without Python."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # what is set up at the first call is no part of it
        model(*images, symmetrized=False)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(*images, symmetrized=False)
    return graph


def measure_pairs(plain: Dust3rForStereo, size: tuple[int, int], batch: int, compile: bool) -> None:
    images = random_images(2 * batch, *size).cuda().split(batch)
    fast = copy.deepcopy(plain).optimize_for_inference(torch.bfloat16)
    if compile:
        fast.compile(mode="reduce-overhead")
    work = gflop(predict, plain, images) / 1e3

    def eager() -> list[torch.Tensor]:
        with torch.autocast("cuda", torch.bfloat16):
            return predict(plain, *images)

    truth = predict(plain, *images)[0]
    times = {
        "eager": seconds(eager),
        "fast": seconds(lambda: fast(*images, symmetrized=False)),
    }
    if not compile:  # which captures by itself
        times["captured"] = seconds(captured(fast, images).replay)
    torch.cuda.reset_peak_memory_stats()
    found = fast(*images, symmetrized=False).pointmap1
    peak = torch.cuda.max_memory_allocated() - sum(w.nbytes for w in plain.parameters())
    rate = product_rate()
    report(
        benchmark="gpu pair",
        device=torch.cuda.get_device_name(),
        size=list(size),
        batch=batch,
        compiled=compile,
        work_tflop=work,
        **{f"{name}_s": passed for name, passed in times.items()},
        pairs_per_second=batch / min(times.values()),
        speedup=times["eager"] / min(times.values()),
        product_tflops=rate,
        shares_of_product_rate=[float(f"{work / passed / rate:.3g}") for passed in times.values()],
        peak_gb=peak / 1e9,
        pointmap_error=relative_error(found, truth),
    )


def measure_scene(model: Dust3rForStereo, size: tuple[int, int], count: int, graph: str) -> None:
    height, width = size
    pairs = make_pairs(count, graph=graph, symmetrize=True)
    inputs = {
        "pixel_values": random_images(count, height, width),
        "original_sizes": [(height, width)] * count,
        "pixel_to_original": [torch.eye(3)] * count,
    }
    model.optimize_for_inference(torch.bfloat16)
    predict_pairs(model, inputs, pairs[:16], progress=False)
    start = time.perf_counter()
    predict_pairs(model, inputs, pairs, progress=False)
    passed = time.perf_counter() - start
    report(
        benchmark="gpu scene",
        device=torch.cuda.get_device_name(),
        images=count,
        graph=graph,
        pairs=len(pairs),
        predict_s=passed,
        pairs_per_second=len(pairs) / passed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512), help="height, width")
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 8))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--images", type=int, default=100, help="of the scene; 0 for no scene")
    parser.add_argument("--graph", default="swin-5")
    options = parser.parse_args()
    with torch.device("cuda"):
        model = official_model("dpt")
    with torch.no_grad():
        for batch in options.batch:
            measure_pairs(model, tuple(options.size), batch, options.compile)
    if options.images:
        measure_scene(model, tuple(options.size), options.images, options.graph)


if __name__ == "__main__":
    main()
