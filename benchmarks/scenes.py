"""Predictions of a scene's pairs: encoder calls, seconds and peak memory, against pair by pair.

    python benchmarks/scenes.py [--images 6] [--size 224] [--model FOLDER] [--dtype float32]
    python benchmarks/scenes.py --images 16 --ways reconstruct --layers 24 12

The straightforward way shows the model one pair after the other, so that both images are encoded
for each, and keeps what it returns; "reconstruct" is the whole way from photographs to a scene.
Each way runs in a process of its own, in turn, which is how its peak memory can be told; times are
medians. Peak memory is compared with what was stated before the work started, both without the
model's weights. Without `--model`, a network of the official widths and a quarter of the depths is
freshly initialised: the work is real, the output is not. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from croco3d.scene.memory import MemoryPlan

WAYS = ("croco3d", "pair_by_pair", "reconstruct")


def load_model(options: argparse.Namespace) -> Any:
    from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo

    dtype = getattr(torch, options.dtype)
    if options.model is not None:
        return Dust3rForStereo.from_pretrained(options.model, dtype=dtype).eval()
    encoder, decoder = options.layers
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", "num_hidden_layers": encoder},
        decoder_config={"model_type": "croco3d_pair_decoder", "num_hidden_layers": decoder},
        head_config={"model_type": f"croco3d_{options.head}_head"},
        image_size=options.size,
    )
    model: Any = Dust3rForStereo(config)
    return model.to(dtype).eval()


def photographs(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((640, 480))) for c in coarse]


@torch.no_grad()
def pair_by_pair(model: Any, pixels: torch.Tensor, pairs: list[tuple[int, int]]) -> list[Any]:
    pixels = pixels.to(next(model.parameters()).dtype)
    return [model(pixels[i : i + 1], pixels[j : j + 1], symmetrized=False) for i, j in pairs]


class Statement(logging.Handler):
    """Keeps the memory that prediction states before it starts."""

    stated: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take the plan out of the message that tells it."""
        plans = [value for value in record.args or () if isinstance(value, MemoryPlan)]
        self.stated = plans[0] if plans else self.stated


def measure(way: str, options: argparse.Namespace, results: Any) -> None:
    from croco3d.modeling.dust3r import Dust3rImageProcessor
    from croco3d.scene import make_pairs, predict_pairs, reconstruct

    statement = Statement()
    logging.getLogger("croco3d").addHandler(statement)
    logging.getLogger("croco3d").setLevel(logging.INFO)
    model = load_model(options)
    encoded = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    pictures, stages, first = photographs(options.images), {}, torch.zeros(0)
    inputs = Dust3rImageProcessor.from_model_config(model.config)(pictures)
    pairs = make_pairs(options.images)
    before = peak_bytes()
    start, cpu = time.perf_counter(), time.process_time()
    if way == "croco3d":
        first = predict_pairs(model, inputs, pairs, progress=False).read(0, 1)[0]
    elif way == "pair_by_pair":
        first = pair_by_pair(model, inputs["pixel_values"], pairs)[0].pointmap2[0].float()
    else:
        stages = reconstruct(pictures, model, progress=False).info["seconds"]
    measured = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "images_encoded": sum(encoded),
        "peak_mb_beyond_the_model": round((peak_bytes() - before) / 1e6),
    }
    if statement.stated is not None:
        stated = statement.stated.total - statement.stated.weights
        measured["stated_mb_beyond_the_model"] = round(stated / 1e6)
    results.put((measured | ({"stages": stages} if stages else {}), first.numpy()))


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(way: str, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(way, options, results))
    process.start()
    while process.is_alive() and results.empty():
        time.sleep(0.1)
    if results.empty():
        raise RuntimeError(f"The run of {way} ended with exit code {process.exitcode}.")
    found = results.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:2])
    parser.add_argument("--model")
    parser.add_argument("--layers", type=int, nargs=2, default=[6, 3], help="24 12 is official")
    parser.add_argument("--head", choices=("linear", "dpt"), default="linear")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[Any]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way in options.ways:
            found[way].append(run(way, options))
    fresh = "fresh, encoder {} x 1024, decoder {} x 768".format(*options.layers)
    result: dict[str, Any] = {
        "benchmark": "scenes",
        "images": options.images,
        "pairs": options.images * (options.images - 1),
        "model": options.model or f"{fresh}, {options.head}",
        "size": options.size,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
    }
    for way, runs in found.items():
        result[way] = dict(runs[0][0])
        for key in ("seconds", "cpu_seconds"):
            result[way][key] = statistics.median(r[0][key] for r in runs)
        peaks = [r[0]["peak_mb_beyond_the_model"] for r in runs]
        result[way]["peak_mb_beyond_the_model"] = max(peaks)
    if {"croco3d", "pair_by_pair"} <= set(found):
        ours, theirs = result["croco3d"], result["pair_by_pair"]
        result["ratio"] = round(theirs["seconds"] / ours["seconds"], 2)
        result["cpu_ratio"] = round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2)
        if options.model is not None:
            maps = found["croco3d"][0][1], found["pair_by_pair"][0][1]
            error = np.linalg.norm(maps[0] - maps[1]) / np.linalg.norm(maps[1])
            result["relative_difference"] = float(error)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
