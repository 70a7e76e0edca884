"""Depth of every pixel in closed form."""

from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..predictions import PairPredictions
from .residuals import Noise, compute_residuals, measure
from .state import Observations, State, image_observations


@dataclass
class DenseMaps:
    """Maps of one image.

    Attributes:
        depth: `(H, W)` along z, world units.
        points: `(H, W, 3)` in the world.
        confidence: `(H, W)`, the largest of all predictions.
    """

    depth: Tensor
    points: Tensor
    confidence: Tensor


def solve_depths(
    predictions: PairPredictions, image: int, state: State, noise: Noise, workers: Executor
) -> DenseMaps:
    """The best depths of an image, its cameras and all pairs being placed.

    Args:
        predictions: All predictions.
        image: Which image.
        state: The cameras and pairs.
        noise: How wrong the observations are.
        workers: Share the pixels.
    """

    def depths(obs: Observations) -> Tensor:
        return compute_residuals(obs, state, measure(obs, noise)).depths[0]

    obs = image_observations(predictions, image)
    confidence = obs.weights.amax(0, keepdim=True)
    # Pixels without any confidence still get a point, from what was said about them.
    obs.weights[:, confidence[0] <= 0] = 1e-6
    depth = torch.cat(list(workers.map(depths, obs.blocks())))
    return maps_from_depth(predictions, image, state, depth, confidence)


def maps_from_depth(
    predictions: PairPredictions, image: int, state: State, depth: Tensor, weights: Tensor
) -> DenseMaps:
    """World points of flat depths `(H * W,)`; `weights` `(M, H * W)` are log confidences.

    Raises:
        ValueError: If a point is not finite.
    """
    height, width = (predictions.sizes or [])[image]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns.flatten(), rows.flatten()]).float()
    local = state.rays(image, pixels) * depth
    world = state.rotations[image].float() @ local + state.centres[image, :, None].float()
    if not world.isfinite().all():
        raise ValueError(
            "The alignment diverged: the predictions of the pairs have nothing in common. Check "
            "that the model and the images fit together."
        )
    return DenseMaps(
        depth=depth.reshape(height, width),
        points=world.T.reshape(height, width, 3).contiguous(),
        confidence=weights.amax(0).exp().reshape(height, width),
    )
