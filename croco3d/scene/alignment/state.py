"""The unknowns of an alignment, and points as the solvers take them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..predictions import PairPredictions

BLOCK = 50_000  # points of an image's predictions that are worked on together, within the cache


@dataclass
class State:
    """Cameras and pair transforms, in float64.

    A pair's similarity takes its points `x` to the world: `scale * rotation @ x + translation`.

    Attributes:
        rotations: `(N, 3, 3)` camera to world.
        centres: `(N, 3)` optical centres in the world.
        focals: `(N,)` horizontal focals in the pixels of the maps.
        focal_limits: `(N, 2)` least and greatest: where predictions contradict each other, a focal
            would otherwise grow without end.
        aspects: `(N,)` vertical over horizontal focal.
        principal_points: `(N, 2)` in the pixels of the maps.
        pair_scales: `(E,)`.
        pair_rotations: `(E, 3, 3)`.
        pair_translations: `(E, 3)`.
    """

    rotations: Tensor
    centres: Tensor
    focals: Tensor
    focal_limits: Tensor
    aspects: Tensor
    principal_points: Tensor
    pair_scales: Tensor
    pair_rotations: Tensor
    pair_translations: Tensor

    def rays(self, image: int, pixels: Tensor) -> Tensor:
        """Directions `(3, P)` with unit z of pixels `(2, P)` of an image, in `pixels`' dtype."""
        focal = torch.stack([self.focals[image], self.focals[image] * self.aspects[image]])
        centred = pixels - self.principal_points[image, :, None].to(pixels)
        return torch.cat([centred / focal[:, None].to(pixels), torch.ones_like(pixels[:1])])

    def moved(self, pair_step: Tensor, image_step: Tensor) -> "State":
        """Apply increments: pairs `(E, 7)` and images `(N, 9)`, see `normal.py`."""
        turn = rotation_from_vector(image_step[:, :3])
        shift = (self.rotations @ image_step[:, 3:6, None])[..., 0]
        pair_shift = (self.pair_rotations @ pair_step[:, 3:6, None])[..., 0]
        return replace(
            self,
            rotations=self.rotations @ turn,
            centres=self.centres + shift,
            focals=(self.focals * image_step[:, 6].exp()).clamp(*self.focal_limits.unbind(1)),
            principal_points=self.principal_points + self.focals[:, None] * image_step[:, 7:9],
            pair_scales=self.pair_scales * pair_step[:, 6].exp(),
            pair_rotations=self.pair_rotations @ rotation_from_vector(pair_step[:, :3]),
            pair_translations=self.pair_translations + self.pair_scales[:, None] * pair_shift,
        )

    def transformed(self, scale: float, rotation: Tensor, translation: Tensor) -> "State":
        """The same scene in another world frame: `scale * rotation @ x + translation`."""
        return replace(
            self,
            rotations=rotation @ self.rotations,
            centres=scale * self.centres @ rotation.T + translation,
            pair_scales=scale * self.pair_scales,
            pair_rotations=rotation @ self.pair_rotations,
            pair_translations=scale * self.pair_translations @ rotation.T + translation,
        )


@dataclass
class Observations:
    """Points of several (pair, view)s at chosen pixels of their images.

    Attributes:
        points: `(K, 3, P)` in the pair's frame.
        weights: `(K, P)` log confidences, at least 0.
        pairs: `(K,)` index of the pair.
        views: `(K,)` 0 or 1: which image of the pair.
        images: `(K,)` index of the image.
        slots: `(K,)` row of `pixels` that belongs to the observation.
        slot_images: `(S,)` the image of each row.
        pixels: `(S, 2, P)` (column, row).
        typical: `(K,)` mean squared distance of the points.
    """

    points: Tensor
    weights: Tensor
    pairs: Tensor
    views: Tensor
    images: Tensor
    slots: Tensor
    slot_images: Tensor
    pixels: Tensor
    typical: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Values `(S, ...)` of each observation's slot, `(K, ...)` or what broadcasts to it."""
        return values if len(values) == 1 else values[self.slots]

    def blocks(self) -> Iterator["Observations"]:
        """Views of `BLOCK` points each; they are worked on in the processor's cache."""
        size = max(1, BLOCK // len(self.points))
        for at in range(0, self.points.shape[2], size):
            chosen = slice(at, at + size)
            yield replace(
                self,
                points=self.points[..., chosen],
                weights=self.weights[:, chosen],
                pixels=self.pixels[..., chosen],
            )

    def sum_by_slot(self, values: Tensor) -> Tensor:
        """Sum `(K, ...)` over the observations of each slot: `(S, ...)`."""
        if len(self.slot_images) == 1:
            return values.sum(0, keepdim=True)
        total = values.new_zeros(len(self.slot_images), *values.shape[1:])
        return total.index_add_(0, self.slots, values)


def confidence_weights(confidence: Tensor) -> Tensor:
    """The weight of a prediction: the logarithm of its confidence, none below 1."""
    return confidence.clamp(min=1).log()


def sample_observations(predictions: PairPredictions, count: int, seed: int) -> Observations:
    """Take the same `count` pixels of an image from all its predictions, in float64.

    The pixels follow a low-discrepancy sequence, so they cover the image evenly at every count.
    """
    sizes = predictions.sizes or []
    count = min(count, min(h * w for h, w in sizes))
    pixels = torch.stack([_spread_pixels(size, count, seed) for size in sizes])
    points, weights = [], []
    for e, pair in enumerate(predictions.pairs):
        for view in (0, 1):
            x, c = predictions.read(e, view)
            u, v = pixels[pair[view]].long()
            points.append(x[v, u].T)
            weights.append(confidence_weights(c[v, u]))
    pairs = torch.arange(len(predictions)).repeat_interleave(2)
    images = torch.tensor(predictions.pairs).flatten()
    stacked = torch.stack(points).double()
    return Observations(
        points=stacked,
        weights=torch.stack(weights).double(),
        pairs=pairs,
        views=torch.arange(2).repeat(len(predictions)),
        images=images,
        slots=images,
        slot_images=torch.arange(predictions.image_count),
        pixels=pixels,
        typical=stacked.square().sum(1).mean(1),
    )


def image_observations(
    predictions: PairPredictions, image: int, pixels: Tensor | None = None
) -> Observations:
    """All predictions of one image, at all pixels or at `(2, P)`, in float32."""
    entries = predictions.observations(image)
    height, width = (predictions.sizes or [])[image]
    if pixels is None:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([columns.flatten(), rows.flatten()]).float()
        at = None
    else:
        at = pixels[1].long() * width + pixels[0].long()
    points = torch.empty(len(entries), 3, pixels.shape[1])
    weights = torch.empty(len(entries), pixels.shape[1])
    typical = []
    for k, (pair, view) in enumerate(entries):
        x, c = predictions.read(pair, view)
        flat, confidence = x.reshape(-1, 3), c.flatten()
        typical.append(float(flat.square().sum()) / len(flat))
        points[k] = (flat if at is None else flat[at]).T
        weights[k] = confidence_weights(confidence if at is None else confidence[at])
    return Observations(
        points=points,
        weights=weights,
        pairs=torch.tensor([pair for pair, _ in entries]),
        views=torch.tensor([view for _, view in entries]),
        images=torch.full((len(entries),), image),
        slots=torch.zeros(len(entries), dtype=torch.long),
        slot_images=torch.tensor([image]),
        pixels=pixels[None],
        typical=torch.tensor(typical),
    )


def _spread_pixels(size: tuple[int, int], count: int, seed: int) -> Tensor:
    """Pixels `(2, count)` of the sequence of Roberts (2018), based on the plastic number."""
    height, width = size
    if count == height * width:
        index = torch.arange(count)
        return torch.stack([index % width, index // width]).double()
    start = torch.rand(2, 1, generator=torch.Generator().manual_seed(seed)).double()
    step = torch.tensor([[0.7548776662466927], [0.5698402909980532]]).double()
    spread = (start + step * torch.arange(count)) % 1
    return (spread * torch.tensor([[width], [height]])).floor()


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotations `(..., 3, 3)` about axes `(..., 3)` by their lengths in radians."""
    return torch.linalg.matrix_exp(skew(vector))


def skew(vector: Tensor) -> Tensor:
    """Matrices `(..., 3, 3)` of the cross product with `(..., 3)` from the left."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
