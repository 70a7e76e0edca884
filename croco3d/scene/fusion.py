"""From pointmaps to one cloud: which pixels to trust, and voxel filtering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import depth_edges

if TYPE_CHECKING:
    from .scene import Scene

VoxelSize = float | Literal["auto"] | None

# Random odd factors: two cells within any realistic distance then get different 64-bit keys, and
# unlike row-major numbering the keys never run out of range, however far an outlier lies.
_CELL_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64
)


@dataclass(eq=False)
class PointCloud:
    """Coloured points in the world frame.

    Attributes:
        points: `(M, 3)` float32.
        colors: `(M, 3)` uint8 sRGB.
        confidences: `(M,)` float32; of the most confident pixel where pixels were averaged.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidences: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.points)


def valid_masks(
    scene: Scene, min_confidence: float = 0.0, remove_edges: bool = False
) -> list[Tensor]:
    """Tell which pixels of each image to trust.

    A pixel is left out where its point is not finite, its depth is not positive, the scene's own
    mask excludes it, its confidence is low, or (on request) it lies at a depth edge, where
    networks put points between foreground and background.

    Args:
        scene: The scene.
        min_confidence: Percentile, 0 to 100, of the confidences of all usable pixels of the scene
            taken together; pixels below are left out. 0 keeps all, 30 drops the worst 30 %.
        remove_edges: Leave out flying pixels at depth edges.

    Returns:
        One `(H, W)` bool mask an image.

    Raises:
        ValueError: If `min_confidence` is not a percentile.
    """
    if not 0 <= min_confidence <= 100:
        raise ValueError(f"min_confidence is a percentile from 0 to 100, got {min_confidence}.")
    masks = [_usable(scene, index) for index in range(len(scene))]
    if min_confidence > 0:
        used = [c[m].flatten().float() for c, m in zip(scene.confidences, masks, strict=True)]
        threshold = percentile(torch.cat(used), min_confidence)
        masks = [m & (c >= threshold) for c, m in zip(scene.confidences, masks, strict=True)]
    if remove_edges:
        masks = [m & ~depth_edges(d, m) for d, m in zip(scene.depthmaps, masks, strict=True)]
    return masks


def percentile(values: Tensor, percent: float) -> float:
    """The value below which `percent` % of `values` `(M,)` lie; -inf for no values."""
    if values.numel() == 0:
        return -math.inf
    rank = max(1, math.ceil(percent / 100 * values.numel()))
    return float(values.kthvalue(rank).values)


def _usable(scene: Scene, index: int) -> Tensor:
    depth = scene.depthmaps[index]
    usable = scene.pointmaps[index].isfinite().all(-1) & depth.isfinite() & (depth > 0)
    mask = scene.masks[index]
    return usable if mask is None else usable & mask


def pixel_footprint(scene: Scene, masks: Sequence[Tensor]) -> float:
    """Median width of a pixel of the maps at its point, in scene units; 0 without any pixel."""
    widths = [
        scene.depthmaps[i][mask].flatten() / scene.network_intrinsics(i)[0, 0].to(torch.float32)
        for i, mask in enumerate(masks)
    ]
    together = torch.cat(widths)
    return float(together.median()) if together.numel() else 0.0


def fuse(
    scene: Scene,
    *,
    voxel_size: VoxelSize = "auto",
    min_confidence: float = 0.0,
    remove_edges: bool = True,
) -> PointCloud:
    """Fuse the scene's pointmaps into one coloured cloud.

    Args:
        scene: The scene.
        voxel_size: Edge of the cubes within which points are averaged, weighted by confidence, in
            scene units. "auto" takes the median width of a pixel at its point, so that surfaces
            seen in several images are stored once; None keeps every pixel's point.
        min_confidence: Percentile, see `valid_masks`.
        remove_edges: Leave out flying pixels at depth edges.

    Returns:
        The cloud, world frame.

    Raises:
        ValueError: If `voxel_size` is not positive.
    """
    masks = valid_masks(scene, min_confidence, remove_edges)
    cloud = PointCloud(
        _gather(scene.pointmaps, masks).astype(np.float32, copy=False),
        _gather(scene.images, masks),
        _gather(scene.confidences, masks).astype(np.float32, copy=False),
    )
    if voxel_size == "auto":
        voxel_size = pixel_footprint(scene, masks) or None
    return cloud if voxel_size is None else voxel_filter(cloud, voxel_size)


def _gather(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> NDArray:
    return torch.cat([m[mask].cpu() for m, mask in zip(maps, masks, strict=True)]).numpy()


def voxel_filter(cloud: PointCloud, voxel_size: float) -> PointCloud:
    """Average the points of each cube of a grid, weighted by their confidences.

    Args:
        cloud: The points.
        voxel_size: Edge of the cubes in the points' unit.

    Returns:
        One point for each cube that holds any.

    Raises:
        ValueError: If `voxel_size` is not positive.
    """
    if not voxel_size > 0 or not math.isfinite(voxel_size):
        raise ValueError(f"voxel_size must be a positive length or None, got {voxel_size}.")
    if not len(cloud):
        return cloud
    cells = np.floor(cloud.points / np.float64(voxel_size)).astype(np.int64).view(np.uint64)
    keys = (cells * _CELL_FACTORS).sum(axis=1, dtype=np.uint64)
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    weights = np.maximum(cloud.confidences[order].astype(np.float64), 1e-6)
    totals = np.add.reduceat(weights, starts)

    def average(values: NDArray) -> NDArray:
        columns = [
            np.add.reduceat(values[order, k] * weights, starts) / totals
            for k in range(values.shape[1])
        ]
        return np.stack(columns, axis=1)

    return PointCloud(
        average(cloud.points).astype(np.float32),
        np.rint(average(cloud.colors)).astype(np.uint8),
        np.maximum.reduceat(cloud.confidences[order], starts),
    )
