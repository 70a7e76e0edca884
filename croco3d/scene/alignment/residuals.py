"""What the observations say of a state: depths, residuals, robust weights.

The unknown depth `D` of a pixel is eliminated in closed form wherever it appears: for observations
`z_k` of one pixel in its camera's frame, weighted by `w_k`, the best depth along the ray `r` is
`sum w_k r.z_k / (sum w_k r.r)`. What is left of the problem has a few numbers an image and a pair.

Residuals are measured in the pair's own units, where the network made its error: dividing by the
scale leaves nothing to gain from shrinking the scene. Errors along a pixel's ray may count less
than those across it: networks find directions by matching, and guess much of the distance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from croco3d.geometry import weighted_median

from .state import Observations, State

# 2.385 sigma keeps 95 % of the efficiency of least squares under Gaussian noise in one dimension
# (Holland, Welsch 1977); lengths of 3-vectors are sqrt(3) as long.
CAUCHY = 2.385 * 3**0.5
# The median length of a 3-vector of unit Gaussians.
MEDIAN_LENGTH = 1.538
# The same of its part along one axis, and of the other two together.
MEDIAN_ALONG, MEDIAN_ACROSS = 0.6745, 1.1774
# However badly distances are known, they are not nothing.
LEAST_ALONG = 0.1
# The share of a pair's typical distance that every error is measured against at least.
NEAR = 0.5


# No network is better than this; below it, reweighting would lock out whoever settles last.
SMALLEST_SIGMA = 1e-3


@dataclass
class Residuals:
    """Observations seen through a state.

    Attributes:
        turns: `(K, 3, 3)` from a pair's frame to the image's camera, rotation only.
        scales: `(K,)` of the pairs.
        rays: `(S, 3, P)` with unit z.
        depths: `(S, P)` along z, world units.
        errors: `(K, 3, P)` in the camera's frame, pair units.
        lengths: `(K, P)` of the errors relative to the points' distance, what is along the ray
            counting less as `Measure` says.
        weights: `(K, P)` under which the depths are best.
        cost: Robust cost of all errors, in units of their variance.
        along: As in `Measure`.
    """

    turns: Tensor
    scales: Tensor
    rays: Tensor
    depths: Tensor
    errors: Tensor
    lengths: Tensor
    weights: Tensor
    cost: float
    along: float


@dataclass
class Noise:
    """How wrong predictions are.

    Attributes:
        sigmas: `(2 * E,)` relative errors of the pairs' two views, across the rays.
        along: What an error along the ray counts beside one across it, at most 1.
    """

    sigmas: Tensor
    along: float = 1.0

    @classmethod
    def equal(cls, pairs: int, sigma: float) -> "Noise":
        """The same for all views of so many pairs, and in all directions."""
        return cls(torch.full((2 * pairs,), sigma, dtype=torch.float64))


@dataclass
class Measure:
    """How errors of some observations are weighed.

    Attributes:
        distances: `(K, P)` what errors are relative to: the points' distance, but not much less
            than typical.
        sigmas: `(K,)` relative error of each observation, across the ray.
        along: What an error along the ray counts beside one across it.
    """

    distances: Tensor
    sigmas: Tensor
    along: float


def measure(obs: Observations, noise: "Noise") -> Measure:
    """Weigh errors of observations of all pairs by the points' distances and what is known."""
    near = (NEAR**2 * obs.typical[:, None]).to(obs.points)
    square = _squared(obs.points) + near
    sigmas = noise.sigmas[2 * obs.pairs + obs.views]
    return Measure(square.sqrt(), sigmas.to(obs.points), noise.along)


def compute_residuals(obs: Observations, state: State, how: Measure, rounds: int = 1) -> Residuals:
    """Depths, residuals and robust weights, by `rounds` of Cauchy's reweighting from equal ones."""
    dtype = obs.points.dtype
    to_camera = state.rotations[obs.images].mT
    turns = to_camera @ state.pair_rotations[obs.pairs]
    offset = state.pair_translations[obs.pairs] - state.centres[obs.images]
    scales = state.pair_scales[obs.pairs]
    shift = (to_camera @ offset[..., None]) / scales[:, None, None]
    rays = torch.stack(
        [state.rays(int(n), obs.pixels[s]) for s, n in enumerate(obs.slot_images)]
    )  # fmt: skip
    turns, shift, scales = turns.to(dtype), shift.to(dtype), scales.to(dtype)
    seen = torch.baddbmm(shift, turns, obs.points)
    base = obs.weights / (how.distances * how.sigmas[:, None]).square()
    along = (seen * obs.spread(rays)).sum(1) / scales[:, None]
    reach = (CAUCHY * how.distances * how.sigmas[:, None]).square()
    unit = normalize(rays, dim=1)
    weights = used = base
    errors = squared = robust = depths = base
    for _ in range(rounds + 1):
        depths = _best_depths(obs, weights, along, scales, rays)
        model = obs.spread(rays * depths[:, None])
        errors = torch.addcmul(seen, model, -1 / scales[:, None, None])
        squared = _squared(errors)
        if how.along < 1:
            squared = squared - (1 - how.along**2) * (errors * obs.spread(unit)).sum(1).square()
        squared = squared / reach
        robust = 1 + squared
        weights, used = base / robust, weights
    lengths = (squared * reach).sqrt_().div_(how.distances)
    cost = 0.5 * CAUCHY**2 * float((obs.weights * robust.log()).sum(dtype=torch.float64))
    return Residuals(turns, scales, rays, depths, errors, lengths, used, cost, how.along)


def _squared(vectors: Tensor) -> Tensor:
    """Squared lengths `(K, P)` of `(K, 3, P)`."""
    x, y, z = vectors.unbind(1)
    return torch.addcmul(torch.addcmul(x * x, y, y), z, z)


def _best_depths(
    obs: Observations, weights: Tensor, along: Tensor, scales: Tensor, rays: Tensor
) -> Tensor:
    total = obs.sum_by_slot(weights / scales.square()[:, None]) * rays.square().sum(1)
    depths = obs.sum_by_slot(weights * along) / total.clamp(min=torch.finfo(rays.dtype).tiny)
    return depths.clamp(min=0)


def robust_sigmas(obs: Observations, lengths: Tensor, floor: float = SMALLEST_SIGMA) -> Tensor:
    """The relative error `(K,)` of each observation, by weighted medians.

    An observation is never thought better than the typical one: a view that few others see fits
    itself best and would otherwise take over.
    """
    single = weighted_median(lengths, obs.weights) / MEDIAN_LENGTH
    typical = single.median()
    return single.maximum(typical).clamp(min=floor)


def share_along(obs: Observations, res: Residuals, how: Measure) -> float:
    """What errors along the rays should count, from typical errors across and along them.

    Depths follow the observations of a pixel, so that what is left along the ray is too small by
    one of as many numbers; an image that one view alone shows says nothing. Predictions of an
    image disagree about distances less than they are wrong, since they share the network's guess;
    the cube of the ratio makes up for it. In scenes of rendered rooms, where the ratio was 0.65,
    0.2 placed cameras better than 0.65 did; where errors are alike in all directions it is 1.
    """
    unit = obs.spread(normalize(res.rays, dim=1))
    along = (res.errors * unit).sum(1).abs()
    across = (_squared(res.errors) - along.square()).clamp(min=0).sqrt()
    views = obs.sum_by_slot(torch.ones(len(obs.pairs), 1))[obs.slots, 0]
    several = views > 1
    if not several.any():
        return 1.0
    along = along * (views / (views - 1).clamp(min=1)).sqrt()[:, None].to(along)
    weights = obs.weights[several].flatten()
    typical = [
        float(weighted_median((error / how.distances)[several].flatten(), weights))
        for error in (along, across)
    ]
    ratio = (typical[1] / MEDIAN_ACROSS) / max(typical[0] / MEDIAN_ALONG, 1e-12)
    return min(max(ratio**3, LEAST_ALONG), 1.0)
