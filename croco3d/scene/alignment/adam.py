"""The plain solver: first-order descent on every pixel, as DUSt3R's paper describes it.

It minimises `sum log C |chi - s P x|` over poses, focals, depth maps and the pairs' scaled rigid
transforms (arXiv 2312.14132, section 3.4), the product of the scales held at one. It is kept as the
baseline that the default is measured against, and to fall back on.
"""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from ..predictions import PairPredictions
from .normal import Freedom
from .state import Observations, State, image_observations

STEPS = 300
RATE = 0.01
LAST_RATE = 1e-6


def descend_all(
    predictions: PairPredictions,
    state: State,
    freedom: Freedom,
    depths: list[Tensor],
    progress: bool = False,
) -> tuple[State, list[Tensor]]:
    """Run 300 steps of Adam from a start.

    Args:
        predictions: All predictions; their pixels are held in memory in float32.
        state: Where to start.
        freedom: What may change.
        depths: Starting depths along z, `(H * W,)` an image.
        progress: Whether to show a bar.

    Returns:
        The state and the depths it ends with.
    """
    count = len(state.focals)
    chunks = [image_observations(predictions, n) for n in range(count)]
    images = torch.zeros(freedom.count, requires_grad=True)
    pairs = torch.zeros(len(state.pair_scales), 7, requires_grad=True)
    logs = [d.clamp(min=1e-6).log().float().requires_grad_() for d in depths]
    # Steps of the rigid parts are taken in units of the scene, as those of the depths are.
    unit = float(torch.cat(depths).median()) or 1.0
    state = state.transformed(1 / unit, torch.eye(3, dtype=torch.float64), torch.zeros(3).double())
    with torch.no_grad():
        for log in logs:
            log -= math.log(unit)
    optimiser = torch.optim.Adam([images, pairs, *logs], lr=RATE, betas=(0.9, 0.9))
    norm = 1 / sum(chunk.weights.numel() for chunk in chunks)
    for step in tqdm(range(STEPS), desc="aligning", disable=None if progress else True):
        share = 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimiser.param_groups[0]["lr"] = LAST_RATE + (RATE - LAST_RATE) * share
        optimiser.zero_grad()
        for n, chunk in enumerate(chunks):
            (norm * _image_cost(chunk, _moved(state, pairs, freedom, images), logs[n])).backward()
        optimiser.step()
    with torch.no_grad():
        return _moved(state, pairs, freedom, images), [log.detach().exp() for log in logs]


def _moved(state: State, pairs: Tensor, freedom: Freedom, images: Tensor) -> State:
    scales = torch.cat([pairs[:, :6], pairs[:, 6:] - pairs[:, 6:].mean()], 1)
    return state.moved(scales.double(), freedom.expand(images).double())


def _image_cost(chunk: Observations, state: State, log_depth: Tensor) -> Tensor:
    """Weighted distances between an image's world points and its scaled, placed predictions."""
    image = int(chunk.images[0])
    rays = state.rays(image, chunk.pixels[0])
    model = state.rotations[image].float() @ (rays * log_depth.exp())
    model = model + state.centres[image, :, None].float()
    turn = state.pair_scales[:, None, None] * state.pair_rotations
    placed = torch.baddbmm(
        state.pair_translations[chunk.pairs, :, None].float(),
        turn[chunk.pairs].float(),
        chunk.points,
    )
    squared = (placed - model).square().sum(1)
    return (chunk.weights * (squared + 1e-12).sqrt()).sum()
