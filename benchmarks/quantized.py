"""One pair with the products of encoder and decoder in int8 (torchao), against float32.

    python benchmarks/quantized.py [--checkpoint FOLDER] [--size 384 512]

Activations are quantised as they come, a scale a token; weights once, a scale an output. Heads stay
in float32. Prints one JSON line: both times, their ratio, bytes of the weights, and how far the
prediction moves. Without `--checkpoint`, weights are fresh: those of a trained model will react
otherwise.
"""

import argparse
import copy

import torch
from measuring import interleave, official_model, random_images, ratios, relative_error, report
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_  # pyright: ignore[reportMissingImports]

from croco3d import Dust3rForStereo


def quantized(model: Dust3rForStereo) -> Dust3rForStereo:
    """Returns a copy with int8 products in encoder and decoder, optimized in what is left."""
    model = copy.deepcopy(model)
    for part in (model.encoder, model.decoder):
        quantize_(part, Int8DynamicActivationInt8WeightConfig())
    return model.optimize_for_inference()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--head", choices=("dpt", "linear"), default="dpt")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512), help="height, width")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.checkpoint:
        model = Dust3rForStereo.from_pretrained(options.checkpoint).eval()
    else:
        model = official_model(options.head)
    with torch.inference_mode(False), torch.no_grad():
        small = quantized(model)
    model.optimize_for_inference()
    image1, image2 = random_images(2, *options.size).split(1)
    times, results = interleave(
        {"float32": lambda: model(image1, image2), "int8": lambda: small(image1, image2)},
        options.repeats,
        warmup=0,
    )
    full, found = results["float32"], results["int8"]
    report(
        benchmark="quantized",
        weights="checkpoint" if options.checkpoint else "fresh",
        size=list(options.size),
        float32_s=times["float32"]["wall_s"],
        int8_s=times["int8"]["wall_s"],
        float32_cpu_s=times["float32"]["cpu_s"],
        int8_cpu_s=times["int8"]["cpu_s"],
        **ratios(times["float32"], times["int8"]),
        pointmap1_error=relative_error(found.pointmap1, full.pointmap1),
        pointmap2_error=relative_error(found.pointmap2, full.pointmap2),
        confidence1_error=relative_error(found.confidence1, full.confidence1),
    )


if __name__ == "__main__":
    main()
