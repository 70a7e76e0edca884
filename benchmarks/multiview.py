"""All pairs of several images, against the obvious implementation pair by pair.

    python benchmarks/multiview.py --images 8 --head linear --size 224 224 --dtype float32

One pair takes the same time as the next, and so does one image: one pair of the obvious
implementation, two encoded images and one decoded pair are measured and multiplied by their
number; `--all-pairs` runs every one.
"""

import argparse
import copy
from typing import Any

import torch
from baseline import predict
from measuring import (
    interleave,
    official_model,
    product,
    random_images,
    ratios,
    relative_error,
    report,
)

from croco3d.scene import make_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--head", choices=("dpt", "linear"), default="linear")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), help="height, width")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--all-pairs", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    plain = official_model(options.head)
    fast = copy.deepcopy(plain).optimize_for_inference(dtype)
    images = random_images(options.images, *options.size).split(1)
    pairs = make_pairs(options.images, graph="complete", symmetrize=True)
    whole = options.all_pairs

    def pair_by_pair() -> list[torch.Tensor]:
        return [predict(plain, images[i], images[j])[0] for i, j in pairs[: None if whole else 1]]

    def encode() -> list[Any]:
        return [fast.encode(image) for image in images[: None if whole else 2]]

    with torch.inference_mode():
        features = encode()

    def decode() -> list[Any]:
        chosen = pairs if whole else pairs[:1]
        return [fast.decode(features[i], features[j]).pointmap1 for i, j in chosen]

    times, results = interleave(
        {"baseline": pair_by_pair, "encode": encode, "decode": decode, "product": product(dtype)},
        options.repeats,
        warmup=0,
    )
    if not whole:
        _scale(times["baseline"], len(pairs))
        _scale(times["encode"], len(images) / 2)
        _scale(times["decode"], len(pairs))
    fast_time = {
        clock: times["encode"][clock] + times["decode"][clock] for clock in times["encode"]
    }
    report(
        benchmark="multiview",
        dtype=options.dtype,
        head=options.head,
        size=list(options.size),
        images=options.images,
        pairs=len(pairs),
        every_pair_measured=whole,
        baseline_s=times["baseline"]["wall_s"],
        fast_s=fast_time["wall_s"],
        baseline_cpu_s=times["baseline"]["cpu_s"],
        fast_cpu_s=fast_time["cpu_s"],
        **ratios(times["baseline"], fast_time),
        product_gflops=2 * 2.048**3 / times["product"]["wall_s"],
        pointmap_error=relative_error(results["decode"][0], results["baseline"][0]),
    )


def _scale(times: dict[str, float], factor: float) -> None:
    for clock in times:
        times[clock] *= factor


if __name__ == "__main__":
    main()
