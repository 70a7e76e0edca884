"""Exported graphs against the model they were made from: ONNX Runtime, torch.export, AOTInductor.

    python benchmarks/exports.py --format onnx torch-export aoti --head linear --size 224 224

Prints one JSON line a format: seconds to export, size of the files, seconds of a pair by the model
as it is, by the optimized model and by the graph, and the largest relative difference.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from measuring import (
    HEADS,
    interleave,
    official_model,
    random_images,
    ratios,
    relative_error,
    report,
)

from croco3d import Dust3rForStereo
from croco3d.export import FORMATS, export_model, output_names
from croco3d.export.running import open_exported
from croco3d.modeling.decoders import PairDecoderConfig
from croco3d.modeling.dust3r import Dust3rConfig
from croco3d.modeling.encoders import CrocoEncoderConfig


def base_model(head: str) -> Dust3rForStereo:
    """Builds a model with a ViT-B encoder and the small published decoder, with fresh weights."""
    torch.manual_seed(0)
    config = Dust3rConfig(
        encoder_config=CrocoEncoderConfig(
            hidden_size=768, num_hidden_layers=12, num_attention_heads=12
        ),
        decoder_config=PairDecoderConfig(
            hidden_size=512, num_hidden_layers=8, num_attention_heads=16
        ),
        head_config=HEADS[head](),
    )
    return Dust3rForStereo(config).eval()


def measure(model: Dust3rForStereo, format: str, size: tuple[int, int], repeats: int) -> None:
    images = random_images(2, *size).split(1)
    optimized = copy.deepcopy(model).optimize_for_inference()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = export_model(model, Path(folder, "model" + FORMATS[format]), format, size)
        seconds = time.perf_counter() - start
        megabytes = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        graph = open_exported(path, format)
        times, results = interleave(
            {
                "eager": lambda: model(*images, symmetrized=False),
                "optimized": lambda: optimized(*images, symmetrized=False),
                "graph": lambda: graph(*images),
            },
            repeats,
        )
    errors = [
        relative_error(value, results["eager"][name])
        for name, value in zip(output_names(model), results["graph"], strict=True)
    ]
    report(
        benchmark="export",
        format=format,
        size=list(size),
        million_parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        export_s=seconds,
        file_mb=megabytes,
        **{f"{name}_s": times[name]["wall_s"] for name in times},
        **{f"{name}_cpu_s": times[name]["cpu_s"] for name in times},
        **ratios(times["eager"], times["graph"]),
        largest_error=max(errors),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", nargs="+", choices=tuple(FORMATS), default=list(FORMATS))
    parser.add_argument("--model", choices=("base", "official"), default="base")
    parser.add_argument("--head", choices=("dpt", "linear"), default="linear")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), help="height, width")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    build = official_model if options.model == "official" else base_model
    for format in options.format:
        measure(build(options.head), format, tuple(options.size), options.repeats)


if __name__ == "__main__":
    main()
