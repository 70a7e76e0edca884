"""Panels of images and maps, put together for looking at."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GAP = 4


def image(pixels: Tensor) -> NDArray[np.uint8]:
    """Turn network input `(3, H, W)` in [-1, 1] into `(H, W, 3)` RGB."""
    levels = (pixels.detach().float().permute(1, 2, 0).cpu() + 1) * 127.5
    return levels.clamp(0, 255).round().to(torch.uint8).numpy()


def heat(values: Tensor, low: float, high: float, mask: Tensor | None = None) -> NDArray[np.uint8]:
    """Colour a map `(H, W)` from dark (low) to bright (high); grey where the mask is false."""
    span = max(high - low, 1e-8)
    levels = ((values.detach().float().cpu() - low) / span).nan_to_num(0.0).clamp(0, 1) * 255
    bgr = cv2.applyColorMap(levels.to(torch.uint8).numpy(), cv2.COLORMAP_TURBO)
    coloured = np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
    if mask is not None:
        coloured[~mask.cpu().numpy()] = 128
    return coloured


def grid(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Put panels in rows on white, each cell as large as the largest panel."""
    panels = [panel for row in rows for panel in row]
    height = max(panel.shape[0] for panel in panels) + _GAP
    width = max(panel.shape[1] for panel in panels) + _GAP
    columns = max(len(row) for row in rows)
    sheet = np.full((height * len(rows), width * columns, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            top, left = i * height, j * width
            sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet
