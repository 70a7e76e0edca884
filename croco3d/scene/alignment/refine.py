"""Refining a state: damped Gauss-Newton on samples, then steps with the gradient of all pixels."""

import logging
from concurrent.futures import Executor

import torch
from torch import Tensor
from tqdm import tqdm

from ..predictions import PairPredictions
from .normal import Freedom, Linearised, gradient, linearise, precondition, solve
from .residuals import (
    Measure,
    Noise,
    Residuals,
    compute_residuals,
    measure,
    robust_sigmas,
    share_along,
)
from .state import Observations, State, image_observations

logger = logging.getLogger(__name__)

SMALLEST_DAMPING = 1e-6
FIRST_SIGMA = 0.05
# A second search pays only where errors are clearly longer along the rays.
ALONG_TO_REFINE = 0.8


def image_bar(count: int, label: str, progress: bool) -> "tqdm[int]":
    """Count over images with a bar on stderr, if wanted and somebody is looking."""
    return tqdm(range(count), desc=label, unit="image", disable=None if progress else True)


def refine_on_samples(
    obs: Observations,
    state: State,
    freedom: Freedom,
    iterations: int = 25,
    tolerance: float = 1e-5,
) -> tuple[State, Noise]:
    """Minimise the robust cost of sampled pixels by Levenberg-Marquardt.

    The observations' errors are estimated anew in the first rounds, while the state settles, and
    shrink slowly, so that no view is locked out for settling last. Where errors along the rays
    turn out larger than those across, they count less in a second search.

    Args:
        obs: Sampled observations of all pairs.
        state: Where to start.
        freedom: What may change.
        iterations: Steps at most.
        tolerance: Relative decrease of the cost that ends the search.

    Returns:
        The state, and how wrong the observations are.
    """
    noise = Noise.equal(len(state.pair_scales), FIRST_SIGMA)
    state, noise = _settle(obs, state, freedom, noise, iterations, tolerance)
    how = measure(obs, noise)
    noise.along = share_along(obs, compute_residuals(obs, state, how), how)
    logger.debug("errors along the rays count %.2f of those across", noise.along)
    if noise.along < ALONG_TO_REFINE:
        state, noise = _settle(obs, state, freedom, noise, iterations, tolerance)
    return state, noise


def _settle(
    obs: Observations,
    state: State,
    freedom: Freedom,
    noise: Noise,
    iterations: int,
    tolerance: float,
) -> tuple[State, Noise]:
    damping = 1e-4
    for iteration in range(iterations):
        if iteration < iterations // 2:
            settled = compute_residuals(obs, state, measure(obs, noise))
            sigmas = robust_sigmas(obs, settled.lengths).maximum(0.4 * noise.sigmas)
            noise = Noise(sigmas, noise.along)
        how = measure(obs, noise)
        res = compute_residuals(obs, state, how)
        lin = linearise(obs, state, res)
        trial, damping = _descend(lin, state, freedom, damping, res.cost, how)
        if trial is None:
            break
        gain = (res.cost - trial[1].cost) / max(res.cost, 1e-30)
        logger.debug("step %d: cost %.6g, gain %.2g", iteration, trial[1].cost, gain)
        state = trial[0]
        if gain < tolerance and iteration >= 3:
            break
    return state, noise


def _descend(
    lin: Linearised,
    state: State,
    freedom: Freedom,
    damping: float,
    cost: float,
    how: Measure,
) -> tuple[tuple[State, Residuals] | None, float]:
    """The first step of growing damping that lowers the cost, if any, and the next damping."""
    pair_count = len(state.pair_scales)
    pull = gradient(lin, pair_count, len(state.focals))
    for _ in range(8):
        moved = _step(lin, state, freedom, damping, pull)
        if moved is not None:
            res = compute_residuals(lin.obs, moved, how)
            if res.cost < cost:
                return (moved, res), max(damping / 10, SMALLEST_DAMPING)
        damping *= 10
    return None, damping


def _step(
    lin: Linearised, state: State, freedom: Freedom, damping: float, pull: tuple[Tensor, Tensor]
) -> State | None:
    """The state after a damped Gauss-Newton step, or None where the system is singular."""
    try:
        system = precondition(lin, freedom, damping, len(state.pair_scales))
    except torch.linalg.LinAlgError:
        return None
    return state.moved(*solve(lin, system, -pull[0], -pull[1]))


def refine_on_all(
    predictions: PairPredictions,
    obs: Observations,
    state: State,
    freedom: Freedom,
    noise: Noise,
    workers: Executor,
    steps: int = 2,
    progress: bool = False,
) -> State:
    """Move a refined state to the minimum over all pixels.

    The samples' second derivatives stand in for those of all pixels, so a step costs one pass over
    the predictions and leaves a few percent of the distance to the minimum.

    Args:
        predictions: All predictions.
        obs: The samples the state was refined on.
        state: From `refine_on_samples`.
        freedom: What may change.
        noise: How wrong the observations are.
        workers: Share the pixels.
        steps: How many steps.
        progress: Whether to show a bar.
    """
    lowest = torch.inf
    best = state
    for _ in range(steps):
        pull, cost = _full_gradient(
            predictions, obs.points.shape[2], state, noise, workers, progress
        )
        if cost > lowest:
            break
        lowest, best = cost, state
        how = measure(obs, noise)
        lin = linearise(obs, state, compute_residuals(obs, state, how))
        moved = _step(lin, state, freedom, SMALLEST_DAMPING, pull)
        if moved is None:
            break
        state = moved
    else:
        best = state
    return best


def _full_gradient(
    predictions: PairPredictions,
    samples: int,
    state: State,
    noise: Noise,
    workers: Executor,
    progress: bool,
) -> tuple[tuple[Tensor, Tensor], float]:
    """Gradients over all pixels and their cost, every image counting as `samples` pixels."""
    pair_count, image_count = len(state.pair_scales), len(state.focals)

    def share(obs: Observations) -> tuple[Tensor, Tensor, float]:
        res = compute_residuals(obs, state, measure(obs, noise))
        return *gradient(linearise(obs, state, res), pair_count, image_count), res.cost

    pairs = torch.zeros(pair_count, 7, dtype=torch.float64)
    images = torch.zeros(image_count, 9, dtype=torch.float64)
    cost = 0.0
    for n in image_bar(image_count, "aligning", progress):
        everything = image_observations(predictions, n)
        part = samples / everything.points.shape[2]
        # Summed in the blocks' order, whichever is done first.
        for of_pairs, of_images, of_cost in workers.map(share, everything.blocks()):
            pairs += part * of_pairs
            images += part * of_images
            cost += part * of_cost
    return (pairs, images), cost
