"""Colour jitter, zoom and mirroring, decided by a given random generator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch


@dataclass(frozen=True)
class Augment:
    """How far training images may be changed.

    Colours change by torchvision's operations, in random order, each view by itself.

    Attributes:
        brightness: Factors are drawn from [1 - b, 1 + b]; 0 turns it off.
        contrast: The same.
        saturation: The same.
        hue: Shifts are drawn from [-h, h], in turns of the colour circle.
        zoom: Windows are narrowed by a factor drawn from [1, zoom].
        mirror: Share of the pairs whose scene is mirrored, both views together.
    """

    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.1
    zoom: float = 1.0
    mirror: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1.")
        if not 0 <= self.mirror <= 1:
            raise ValueError(f"mirror={self.mirror} is a share and must lie between 0 and 1.")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue={self.hue} must lie between 0 and 0.5 of a turn.")
        if self.zoom < 1:
            raise ValueError(
                f"zoom={self.zoom} must be at least 1, which leaves images as they are."
            )

    def draw_zoom(self, rng: np.random.Generator) -> float:
        """Draw by how much to narrow a window."""
        return float(rng.uniform(1.0, self.zoom))

    def draw_mirror(self, rng: np.random.Generator) -> bool:
        """Draw whether to mirror a pair."""
        return self.mirror > 0 and float(rng.random()) < self.mirror

    def jitter(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Change the colours of a `(3, H, W)` uint8 image."""
        # torchvision takes seconds to import, and most uses of the data package need none of it.
        from torchvision.transforms.v2 import functional

        steps: list[Callable[[torch.Tensor], torch.Tensor]] = []
        for name in ("brightness", "contrast", "saturation"):
            reach = getattr(self, name)
            factor = float(rng.uniform(1 - reach, 1 + reach))
            if reach:
                steps.append(
                    partial(getattr(functional, f"adjust_{name}"), **{f"{name}_factor": factor})
                )
        if self.hue:
            turn = float(rng.uniform(-self.hue, self.hue))
            steps.append(partial(functional.adjust_hue, hue_factor=turn))
        for place in rng.permutation(len(steps)):
            image = steps[place](image)
        return image


def normalize(image: torch.Tensor) -> torch.Tensor:
    """Turn a uint8 image into float32 in [-1, 1]."""
    return image.to(torch.float32) / 127.5 - 1.0
