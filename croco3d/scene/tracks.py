"""Which pixels of different images show the same point."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import reciprocal_matches
from .fusion import PointCloud, valid_masks

if TYPE_CHECKING:
    from .scene import Scene


@dataclass(eq=False)
class Matches:
    """Corresponding pixels of two images.

    Attributes:
        pixels1: `(M, 2)` (column, row) in the first image, ORIGINAL pixels.
        pixels2: `(M, 2)` in the second one, likewise.
        confidence: `(M,)` the lower of the two pixels' confidences.
    """

    pixels1: Tensor
    pixels2: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.pixels1)


@dataclass(eq=False)
class Tracks:
    """Scene points and where the images see them.

    Attributes:
        points: `(P, 3)` world frame.
        colors: `(P, 3)` uint8 sRGB.
        images: `(O,)` image index of each observation.
        pixels: `(O, 2)` (column, row) of each observation, ORIGINAL pixels.
        ids: `(O,)` index of the point of each observation.
        errors: `(O,)` how far the image's own estimate of the point lies from the track's, seen
            from the image whose pixel the point is, original pixels; 0 for that image.
    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8]
    images: NDArray[np.int64]
    pixels: NDArray[np.float64]
    ids: NDArray[np.int64]
    errors: NDArray[np.float64]

    def cloud(self) -> PointCloud:
        """The points alone."""
        points = self.points.astype(np.float32)
        return PointCloud(points, self.colors, np.ones(len(points), dtype=np.float32))


def to_original(scene: Scene, index: int, pixels: Tensor) -> Tensor:
    """Map pixels `(M, 2)` (column, row) of the maps of image `index` to original pixels."""
    matrix = scene.pixel_to_original[index].double()
    mapped = pixels.double() @ matrix[:, :2].mT + matrix[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def to_network(scene: Scene, index: int, pixels: Tensor) -> Tensor:
    """Map original pixels `(M, 2)` (column, row) of image `index` to pixels of its maps."""
    inverse = torch.linalg.inv(scene.pixel_to_original[index].double())
    mapped = pixels.double() @ inverse[:, :2].mT + inverse[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def find_matches(
    scene: Scene,
    first: int,
    second: int,
    *,
    min_confidence: float = 0.0,
    max_distance: float | None = 0.02,
) -> Matches:
    """Match the pixels of two images whose scene points are each other's nearest.

    Args:
        scene: The scene.
        first: Index of the first image.
        second: Index of the second image.
        min_confidence: Percentile of confidence, see `Scene.mask`.
        max_distance: Leave out matches whose two points are further apart than this fraction of
            their depth, which have no true counterpart in the other image; None keeps them.

    Returns:
        The matches in original pixels, the most confident first.

    Raises:
        ValueError: If an index is out of range.
    """
    for index in (first, second):
        if not 0 <= index < len(scene):
            raise ValueError(f"Image {index} is not among the scene's 0 to {len(scene) - 1}.")
    masks = valid_masks(scene, min_confidence)
    points1, points2 = (scene.pointmaps[i][masks[i]] for i in (first, second))
    pairs = reciprocal_matches(points1, points2)
    if max_distance is not None and len(pairs):
        apart = (points1[pairs[:, 0]] - points2[pairs[:, 1]]).norm(dim=-1)
        pairs = pairs[apart <= max_distance * scene.depthmaps[first][masks[first]][pairs[:, 0]]]
    sides = []
    for index, chosen in ((first, pairs[:, 0]), (second, pairs[:, 1])):
        pixels = masks[index].nonzero().flip(-1)[chosen]
        sides.append(
            (to_original(scene, index, pixels), scene.confidences[index][masks[index]][chosen])
        )
    confidence = torch.minimum(sides[0][1], sides[1][1])
    order = confidence.argsort(descending=True, stable=True)
    return Matches(sides[0][0][order], sides[1][0][order], confidence[order])


def build_tracks(scene: Scene, *, min_confidence: float = 0.0, max_points: int = 200_000) -> Tracks:
    """Choose points of the scene and find every image that sees them.

    Points are pixels of one image on a regular grid, exactly as the scene has them. Another image
    sees a point where it projects among trusted pixels whose depth agrees within 1 %. What earlier
    images have covered is not chosen again.

    Args:
        scene: The scene.
        min_confidence: Percentile of confidence, see `Scene.mask`.
        max_points: About how many points to choose at most.

    Returns:
        Points and observations.
    """
    masks = valid_masks(scene, min_confidence, remove_edges=True)
    total = sum(int(m.sum()) for m in masks)
    step = max(1, int(np.ceil((total / max(1, max_points)) ** 0.5)))
    free = [m.clone() for m in masks]
    parts: list[Tracks] = []
    start = 0
    for index in range(len(scene)):
        part = _tracks_from(scene, index, masks, free, step)
        part.ids += start
        start += len(part.points)
        parts.append(part)
    return Tracks(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Tracks)))


def _tracks_from(
    scene: Scene, seed: int, masks: list[Tensor], free: list[Tensor], step: int
) -> Tracks:
    """Tracks of one image's pixels; takes what they cover out of `free`."""
    grid = torch.zeros_like(free[seed])
    grid[step // 2 :: step, step // 2 :: step] = True
    chosen = grid & free[seed]
    points = scene.pointmaps[seed][chosen].double()
    own = to_original(scene, seed, chosen.nonzero().flip(-1))
    images, pixels, ids = [torch.full((len(points),), seed)], [own], [torch.arange(len(points))]
    errors = [torch.zeros(len(points), dtype=torch.float64)]
    for index in range(len(scene)):
        if index == seed:
            continue
        seen, where, said = _seen_by(scene, index, points, masks[index])
        images.append(torch.full((len(seen),), index))
        pixels.append(where)
        ids.append(seen)
        errors.append((scene.cameras[seed].project(said)[0] - own[seen]).norm(dim=-1))
        _cover(free[index], to_network(scene, index, where), step)
    observations = (torch.cat(column).numpy() for column in (images, pixels, ids, errors))
    return Tracks(points.numpy(), scene.images[seed][chosen].numpy(), *observations)


def _seen_by(
    scene: Scene, index: int, points: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find which points `(M, 3)` an image sees.

    Returns:
        Indices `(K,)` of the points seen, their original pixels `(K, 2)`, and the image's own
        points at these pixels `(K, 3)`.
    """
    camera = scene.cameras[index]
    pixels, depth = camera.project(points)
    network = to_network(scene, index, pixels)
    last = network.new_tensor([mask.shape[1] - 1, mask.shape[0] - 1])
    inside = (depth > 0) & (network >= 0).all(-1) & (network <= last).all(-1)
    own, trusted = sample_depth(scene.depthmaps[index], mask, network)
    seen = (inside & (trusted > 1 - 1e-6) & ((own - depth).abs() < 0.01 * own)).nonzero().flatten()
    # Along the ray, so that the point stays on the pixel.
    said = camera.center.double() + (points[seen] - camera.center.double()) * (
        own[seen] / depth[seen]
    ).unsqueeze(-1)
    return seen, pixels[seen], said


def sample_depth(depth: Tensor, mask: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate a depth map `(H, W)` at pixels `(M, 2)` between trusted pixels.

    Inverse depth is interpolated, which is linear in the pixel on a plane.

    Returns:
        Depths `(M,)`, and the share of the interpolation that is in the mask `(M,)`.
    """
    height, width = mask.shape
    grid = (pixels + 0.5) / pixels.new_tensor([width, height]) * 2 - 1
    grid = grid.nan_to_num(nan=-2.0).clamp(-2, 2)[None, None]
    inverse = torch.where(mask, 1 / depth.double(), 0.0)
    values = torch.stack([inverse, mask.double()])[None]
    sampled = F.grid_sample(values, grid, align_corners=False, padding_mode="border")[0, :, 0]
    return sampled[1] / sampled[0], sampled[1]


def _cover(free: Tensor, pixels: Tensor, step: int) -> None:
    """Take pixels `(M, 2)` and their surroundings of `step` out of a mask."""
    if not len(pixels):
        return
    seeds = torch.zeros_like(free, dtype=torch.float32)
    columns, rows = pixels.round().long().unbind(-1)
    seeds[rows, columns] = 1.0
    size = 2 * (step // 2) + 1
    free &= F.max_pool2d(seeds[None, None], size, stride=1, padding=size // 2)[0, 0] == 0
