"""Computes, from rates, what scenes of many images take; writes the tables as Markdown.

    python benchmarks/scale.py > docs/results/scale.md

The work is that of the official 512 DPT model at 512x384 in bfloat16, optimized for inference.
Seconds of this CPU were measured (`IMAGE_S`, `PAIR_S`). The rate of the H200 is that of an H100,
whose arithmetic is the same: measured by `benchmarks/gpu.py`, over operations that were counted.
That eight share the work evenly is ASSUMED.
"""

from croco3d.scene import make_pairs

ENCODE_TFLOP, DECODE_TFLOP = 1.046 / 2, 0.437 + 0.373
BYTES_A_PAIR = 2 * 384 * 512 * 4 * 2  # two pointmaps and confidences in float16
BYTES_AN_IMAGE = 768 * 1024 * 2  # encoder tokens in bfloat16
# One thread of this CPU, processor time: an image encoded; a pair decoded, both heads included.
IMAGE_S, PAIR_S = 6.17 / 2, 2.84 + 2 * 0.96
H200 = 14.85 / 0.0706  # TFLOP/s: eight pairs at once, captured as a CUDA graph
MACHINES = {  # name: (seconds an image, seconds a pair, price of an hour in dollars, assumed)
    "this CPU, two cores": (IMAGE_S / 2, PAIR_S / 2, 0.1),
    "one H200": (ENCODE_TFLOP / H200, DECODE_TFLOP / H200, 4.0),
    "eight H200": (ENCODE_TFLOP / H200 / 8, DECODE_TFLOP / H200 / 8, 32.0),
}
GRAPHS = {"complete": "complete", "window of 5": "swin-5", "logarithmic": "logwin-4"}
PAIRS_LISTED = 100  # above this many images, pairs are counted from here, not listed


def count_pairs(images: int, graph: str) -> int:
    """Counts the ordered pairs of a scene graph."""
    if graph == "complete":
        return images * (images - 1)
    if images > PAIRS_LISTED:  # windows are cyclic, so that every image has the same number
        return count_pairs(PAIRS_LISTED, graph) * images // PAIRS_LISTED
    return len(make_pairs(images, graph=graph, symmetrize=True))


def human(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.2g} s"


def main() -> None:
    lines = [
        "# Scale on paper",
        "",
        "Computed by `benchmarks/scale.py`, not run: encoding every image once and decoding every",
        "ordered pair with the official 512 DPT model at 512x384 in bfloat16. Seconds of this",
        f"CPU are measured on one thread ({IMAGE_S:.2g} s an image encoded, {PAIR_S:.2g} s a pair",
        "decoded) and halved for two. **The H200 was not measured**: its rate is that of an H100,",
        f"{H200:.0f} TFLOP/s over the operations counted, and eight are assumed to share the work",
        "evenly; bringing predictions to memory is left out, which took about half of the time of",
        "100 images on the H100. Prices an hour are assumed: "
        + ", ".join(f"{n} ${p[-1]:g}" for n, p in MACHINES.items())
        + ".",
        "Alignment and reading photographs are left out.",
        "",
        "| Images | Graph | Pairs | Predictions stored | Tokens | " + " | ".join(MACHINES) + " |",
        "|---|---|---|---|---|" + "---|" * len(MACHINES),
    ]
    for images in (10, 100, 1000, 10000):
        for label, graph in GRAPHS.items():
            pairs = count_pairs(images, graph)
            cells = []
            for image_s, pair_s, price in MACHINES.values():
                seconds = images * image_s + pairs * pair_s
                cells.append(f"{human(seconds)}, ${seconds / 3600 * price:,.2g}")
            stored, tokens = pairs * BYTES_A_PAIR / 1e9, images * BYTES_AN_IMAGE / 1e9
            row = (f"{images:,}", label, f"{pairs:,}", f"{stored:,.3g} GB", f"{tokens:.2g} GB")
            lines.append("| " + " | ".join((*row, *cells)) + " |")
    lines += [
        "",
        "**What breaks first.** Complete graphs grow with the square: the predictions outgrow this",
        "machine's 24 GB of memory at about 88 images and must go to a cache folder; at 1,000",
        "images they take terabytes, and a window or retrieval has to choose the pairs. With",
        "windows, storage reaches that memory at about 760 images and grows linearly. The",
        "encoder's tokens are the small part throughout.",
    ]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
