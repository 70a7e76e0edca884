"""Pictures of pairs: images, depth as it is and as it was estimated, confidence."""

import os
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate, single_target
from croco3d.files import atomic_path

Picture = NDArray[np.uint8]

GAP = 4
CAPTION = 18


def draw_pair(estimate: StereoEstimate, sample: Sample, caption: str) -> Picture:
    """One row a view: image, true depth, estimated depth (both from camera 1), confidence.

    The estimate is scaled to the truth by the median ratio over both views; both depths share one
    range of colours, from near (dark) to far (bright). Grey is unknown.

    Returns:
        RGB `(H, W, 3)`.
    """
    target = single_target(sample)
    true = [points[0, ..., 2] for points in target.in_camera1()]
    valid = [target.valid1[0], target.valid2[0]]
    found = [
        torch.full_like(depth, torch.nan) if points is None else points[..., 2].float()
        for depth, points in zip(true, (estimate.pointmap1, estimate.pointmap2), strict=True)
    ]
    ratios = torch.cat([(t / f)[v & (f > 0)] for t, f, v in zip(true, found, valid, strict=True)])
    scale = float(ratios.median()) if len(ratios) else 1.0
    known = torch.cat([depth[mask] for depth, mask in zip(true, valid, strict=True)])
    low, high = (float(known.quantile(q)) for q in (0.02, 0.98)) if len(known) else (0.0, 1.0)
    rows = []
    for view in range(2):
        panels = [
            image(sample[f"pixel_values{view + 1}"]),
            colour(true[view], low, high, valid[view]),
            colour(scale * found[view], low, high, found[view].isfinite()),
        ]
        confidence = (estimate.confidence1, estimate.confidence2)[view]
        if confidence is not None:
            spread = confidence.float().log()
            panels.append(colour(spread, float(spread.min()), float(spread.max())))
        rows.append(panels)
    return _captioned(grid(rows), caption)


def image(pixel_values: Tensor) -> Picture:
    """Network input `(3, H, W)` in [-1, 1] as RGB `(H, W, 3)`."""
    levels = ((pixel_values.detach().float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().numpy()


def colour(values: Tensor, low: float, high: float, mask: Tensor | None = None) -> Picture:
    """A map `(H, W)` as RGB `(H, W, 3)`, dark at `low` and bright at `high`; grey where masked."""
    share = ((values.float() - low) / max(high - low, 1e-8)).nan_to_num(0.0).clamp(0, 1)
    levels = (255 * share).round().to(torch.uint8).cpu().numpy()
    picture = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    if mask is not None:
        picture[~mask.cpu().numpy()] = 128
    return np.asarray(picture, dtype=np.uint8)


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures in rows on white, each cell as large as the largest of them."""
    height = max(panel.shape[0] for row in rows for panel in row) + GAP
    width = max(panel.shape[1] for row in rows for panel in row) + GAP
    sheet = np.full((height * len(rows), width * max(map(len, rows)), 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            top, left = i * height, j * width
            sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet


def save_picture(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write an RGB picture as PNG."""
    with atomic_path(path) as temporary:
        encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        temporary.write_bytes(encoded.tobytes())


def _captioned(picture: Picture, caption: str) -> Picture:
    strip = np.full((CAPTION, picture.shape[1], 3), 255, dtype=np.uint8)
    plain = caption.encode("ascii", "replace").decode()
    black = (0, 0, 0)
    cv2.putText(strip, plain, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, black, 1, cv2.LINE_AA)
    return np.concatenate((strip, picture))
