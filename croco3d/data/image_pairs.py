"""Pairs of plain images, for CroCo's self-supervised pre-training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..images import load_image
from .augment import Augment, normalize
from .draws import FileDataset, Resolution, Sample
from .windows import largest_window


class ImagePairFolder(FileDataset):
    """Pairs of images of the same scenes, without cameras or depth.

    The pairs are the lines of a text file with two paths each (relative to `root`, separated by a
    tab, or by white space where the names have none; `#` begins a comment). Without a file, images
    whose names differ in a last `_1` and `_2` (or `-1`, `-2`) alone pair up, in any folder below
    `root`, as CroCo's published pairs are named.

    A sample has `pixel_values1`, `pixel_values2` `(3, H, W)` in [-1, 1], `name1`, `name2` and
    `dataset`.

    Args:
        root: The folder.
        resolution: One side or `(width, height)`, or several to choose from by draw.
        pairs: The text file; None to look for names.
        name: What the data set is called; the folder's name by default.
        augment: Colour jitter, zoom and mirroring; None for none.
        seed: What, with epoch and index, decides a sample.
        max_unreadable: How many different pairs may be unreadable before an error names them.
    """

    def __init__(
        self,
        root: str | Path,
        resolution: int | Resolution | Sequence[Resolution] = 224,
        pairs: str | Path | None = None,
        name: str | None = None,
        augment: Augment | None = None,
        seed: int = 0,
        max_unreadable: int = 100,
    ) -> None:
        self.root = Path(root)
        self.name = name or self.root.resolve().name
        self.augment = augment
        self.pairs = _listed_pairs(Path(pairs)) if pairs else _named_pairs(self.root)
        super().__init__(len(self.pairs), resolution, seed, max_unreadable)

    def describe(self, index: int) -> str:
        """Name a pair for messages."""
        return f"{self.name} pair {index} ({', '.join(self.pairs[index])})"

    def load(self, index: int, resolution: Resolution, rng: np.random.Generator) -> Sample:
        """Read one pair."""
        sample: Sample = {"dataset": self.name}
        mirror = self.augment is not None and self.augment.draw_mirror(rng)
        for number, path in enumerate(self.pairs[index], start=1):
            pixels = self._pixels(self.root / path, resolution, rng)
            sample[f"pixel_values{number}"] = pixels.flip(-1) if mirror else pixels
            sample[f"name{number}"] = path
        return sample

    def _pixels(self, path: Path, resolution: Resolution, rng: np.random.Generator) -> torch.Tensor:
        image = load_image(path)
        zoom, shift = 1.0, (0.5, 0.5)
        if self.augment is not None:
            zoom = self.augment.draw_zoom(rng)
            shift = (float(rng.uniform()), float(rng.uniform()))
        window = largest_window((image.shape[1], image.shape[0]), None, resolution, zoom, shift)
        resized: NDArray = np.array(window.resize_image(Image.fromarray(image)))
        pixels = torch.from_numpy(resized).permute(2, 0, 1)
        return normalize(self.augment.jitter(pixels, rng) if self.augment else pixels)


def _listed_pairs(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        names = [part.strip() for part in (line.split("\t") if "\t" in line else line.split())]
        if len(names) != 2:
            raise ValueError(f"{path}, line {number}: expected two image paths, got {line!r}.")
        pairs.append((names[0], names[1]))
    if not pairs:
        raise ValueError(f"{path} lists no pair of images.")
    return pairs


def _named_pairs(root: Path) -> list[tuple[str, str]]:
    pairs = []
    for first in sorted(root.rglob("*[_-]1.*")):
        second = first.with_name(f"{first.stem[:-1]}2{first.suffix}")
        if second.is_file():
            pairs.append((str(first.relative_to(root)), str(second.relative_to(root))))
    if not pairs:
        raise ValueError(
            f"No pair NAME_1.jpg, NAME_2.jpg below {root}; name the images so, or list the "
            "pairs in a text file with two paths a line."
        )
    return pairs
