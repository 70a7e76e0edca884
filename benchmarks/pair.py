"""One pair at 512x384 through the official DPT architecture, against the obvious implementation.

python benchmarks/pair.py --dtype float32 --repeats 3
"""

import argparse
import copy

import torch
from baseline import predict
from measuring import (
    gflop,
    interleave,
    official_model,
    product,
    random_images,
    ratios,
    relative_error,
    report,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--head", choices=("dpt", "linear"), default="dpt")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512), help="height, width")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    plain = official_model(options.head)
    fast = copy.deepcopy(plain).optimize_for_inference(dtype)
    image1, image2 = random_images(2, *options.size).split(1)
    work = gflop(predict, plain, (image1, image2))
    times, results = interleave(
        {
            "baseline": lambda: predict(plain, image1, image2),
            "fast": lambda: fast(image1, image2),
            "product": product(dtype),
        },
        options.repeats,
        warmup=0,
    )
    truth, ours = results["baseline"], results["fast"]
    rate = {clock: work / times["fast"][clock] for clock in ("wall_s", "cpu_s")}
    limit = {clock: 2 * 2.048**3 / times["product"][clock] for clock in ("wall_s", "cpu_s")}
    report(
        benchmark="pair",
        dtype=options.dtype,
        head=options.head,
        size=list(options.size),
        work_gflop=work,
        baseline_s=times["baseline"]["wall_s"],
        fast_s=times["fast"]["wall_s"],
        baseline_cpu_s=times["baseline"]["cpu_s"],
        fast_cpu_s=times["fast"]["cpu_s"],
        **ratios(times["baseline"], times["fast"]),
        product_gflops=limit["wall_s"],
        product_gflops_cpu=limit["cpu_s"],
        share_of_product_rate_wall=rate["wall_s"] / limit["wall_s"],
        share_of_product_rate_cpu=rate["cpu_s"] / limit["cpu_s"],
        pointmap_error=relative_error(ours.pointmap1, truth[0]),
        confidence_error=relative_error(ours.confidence1, truth[2]),
    )


if __name__ == "__main__":
    main()
