"""Predictions of a scene's pairs: encoder calls, seconds and peak memory, against pair by pair.

    python benchmarks/scenes.py [--images 6] [--size 224] [--model FOLDER] [--dtype float32]

The straightforward way shows the model one pair after the other, so that both images are encoded
for each, and keeps what it returns. Each way runs in a process of its own, in turn, which is how
its peak memory can be told; times are medians. Without `--model`, a network of the official
architecture's encoder width and a quarter of its depth is freshly initialised: the work is real,
the output is not. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

WAYS = ("croco3d", "pair_by_pair")


def load_model(source: str | None, size: int, dtype: torch.dtype) -> Any:
    from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo

    if source is not None:
        return Dust3rForStereo.from_pretrained(source, dtype=dtype).eval()
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", "num_hidden_layers": 6},
        decoder_config={"model_type": "croco3d_pair_decoder", "num_hidden_layers": 3},
        head_config={"model_type": "croco3d_linear_head"},
        image_size=size,
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


def measure(way: str, options: argparse.Namespace, results: Any) -> None:
    from croco3d.modeling.dust3r import Dust3rImageProcessor
    from croco3d.scene import make_pairs, predict_pairs

    model = load_model(options.model, options.size, getattr(torch, options.dtype))
    encoded = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    inputs = Dust3rImageProcessor.from_model_config(model.config)(photographs(options.images))
    pairs = make_pairs(options.images)
    before = peak_bytes()
    start = time.perf_counter()
    if way == "croco3d":
        predictions = predict_pairs(model, inputs, pairs, progress=False)
        first = predictions.read(0, 1)[0]
    else:
        outputs = pair_by_pair(model, inputs["pixel_values"], pairs)
        first = outputs[0].pointmap2[0].float()
    seconds = time.perf_counter() - start
    results.put((seconds, sum(encoded), peak_bytes() - before, first.numpy()))


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(way: str, options: argparse.Namespace) -> tuple[float, int, int, np.ndarray]:
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
    parser.add_argument("--model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[Any]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            found[way].append(run(way, options))
    seconds = {way: statistics.median(r[0] for r in runs) for way, runs in found.items()}
    result: dict[str, Any] = {
        "benchmark": "scenes",
        "images": options.images,
        "pairs": options.images * (options.images - 1),
        "model": options.model or "fresh, encoder 6 x 1024, decoder 3 x 768, linear",
        "size": options.size,
        "dtype": options.dtype,
        "ratio": round(seconds["pair_by_pair"] / seconds["croco3d"], 2),
    }
    for way in WAYS:
        result[way] = {
            "seconds": round(seconds[way], 2),
            "images_encoded": found[way][0][1],
            "peak_mb_beyond_the_model": round(max(r[2] for r in found[way]) / 1e6),
        }
    if options.model is not None:
        ours, theirs = (found[way][0][3] for way in WAYS)
        result["relative_difference"] = float(
            np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
