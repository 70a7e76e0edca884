"""Photographs of 12 megapixels to network inputs: photographs a second, against plain Pillow.

    python benchmarks/preprocessing.py [--photographs 100] [--rounds 3]

The plain way reads one photograph after the other, applies the EXIF orientation, resizes by
Pillow's Lanczos and normalises. Both read the same JPEG files, in turn. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from croco3d import Dust3rImageProcessor

WIDTH, HEIGHT = 4000, 3000
DISTINCT = 10


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Write JPEG files with structure at all scales and sensor noise."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(min(count, DISTINCT)):
        photo = np.zeros((HEIGHT, WIDTH, 3))
        for cells in (6, 60, 600):
            coarse = rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8)
            full = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            photo += np.asarray(full) / 3
        photo += rng.normal(0, 4, (HEIGHT, WIDTH, 1))
        paths.append(folder / f"{index}.jpg")
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=92)
    return [paths[index % len(paths)] for index in range(count)]


def plain(paths: Sequence[Path]) -> list[torch.Tensor]:
    """What one writes without thinking of speed."""
    inputs = []
    for path in paths:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        image = image.resize((512, 384), Image.Resampling.LANCZOS)
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        inputs.append((values - 0.5) / 0.5)
    return inputs


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    processor = Dust3rImageProcessor(size=512)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), options.photographs)
        difference = (processor(paths[:1])["pixel_values"][0] - plain(paths[:1])[0]).abs().max()
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(seconds(lambda: processor(paths)))
            theirs.append(seconds(lambda: plain(paths)))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    result = {
        "benchmark": "preprocessing",
        "photographs": options.photographs,
        "megapixels": WIDTH * HEIGHT / 1e6,
        "cpus": os.cpu_count(),
        "seconds": round(fast, 3),
        "plain_seconds": round(slow, 3),
        "ratio": round(slow / fast, 2),
        "photographs_per_second": round(options.photographs / fast, 1),
        "largest_difference_grey_levels": round(float(difference) * 127.5, 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
