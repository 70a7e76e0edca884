"""The Gauss-Newton system of cameras and pair transforms, depths eliminated.

Increments are local: a pair's 7 numbers turn, shift and scale its frame, in its own units; an
image's 9 turn and shift its camera, scale its focal, and shift its principal point in units of the
focal. With B the turn from the pair's frame to the image's camera, y the model's point in the
pair's frame, m in the camera's, s the pair's scale and r the ray, an error changes by

    d e = B (w x y + t + l y) - (w' x m + t' + D dr + r dD) / s.

dD is eliminated pixel by pixel. That couples all pairs that share an image, so the matrix is never
formed: products with it cost as much as the observations do. Conjugate gradients solve the system,
preconditioned by the same matrix with depths held still but for a scale and an offset an image; its
pair blocks drop out in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .residuals import Residuals
from .state import Observations, State, skew

PAIR, IMAGE = 7, 9
# Changes of a whole depth map that the preconditioner knows of: its scale and an offset.
DEPTH = 2
# The preconditioner may be rough: every fourth sample is enough for it.
STRIDE = 4


@dataclass
class Freedom:
    """Which of the images' numbers may change.

    Attributes:
        columns: `(N, 9)` index among the free numbers, -1 for what stays; numbers that share an
            index change together.
    """

    columns: Tensor

    @property
    def count(self) -> int:
        """How many free numbers there are."""
        return int(self.columns.max()) + 1

    def expand(self, free: Tensor) -> Tensor:
        """Increments `(N, 9)` from the free numbers `(F,)`."""
        padded = torch.cat([free, free.new_zeros(1)])
        return padded[self.columns]

    def with_depths(self) -> "Freedom":
        """The same with columns for the depth maps' scales and offsets, `(N, 11)`."""
        extra = self.count + torch.arange(DEPTH * len(self.columns)).reshape(-1, DEPTH)
        return Freedom(torch.cat([self.columns, extra], 1))

    def gather(self, full: Tensor) -> Tensor:
        """Sum `(N, 9)` over what changes together: `(F,)`, the transpose of `expand`."""
        total = full.new_zeros(self.count + 1)
        index = torch.where(self.columns < 0, self.count, self.columns).flatten()
        return total.index_add_(0, index, full.flatten())[:-1]


@dataclass
class Linearised:
    """Observations, weights and residuals at one state.

    Attributes:
        obs: The observations.
        res: Residuals and weights.
        aspects: `(S,)` vertical over horizontal focal.
        models: `(K, 3, P)` the model's points in the pairs' frames.
        depth_totals: `(S, P)` curvature of the cost along each depth.
    """

    obs: Observations
    res: Residuals
    aspects: Tensor
    models: Tensor
    depth_totals: Tensor


def linearise(obs: Observations, state: State, res: Residuals) -> Linearised:
    """Prepare products with the system at a state."""
    models = obs.points - res.turns.mT @ res.errors
    total = obs.sum_by_slot(res.weights / res.scales.square()[:, None])
    curvature = total * res.rays.square().sum(1)
    aspects = state.aspects[obs.slot_images].to(obs.points)
    return Linearised(obs, res, aspects, models, curvature)


def gradient(lin: Linearised, pair_count: int, image_count: int) -> tuple[Tensor, Tensor]:
    """Gradients of half the weighted squared errors: pairs `(E, 7)`, images `(N, 9)`, float64."""
    return _adjoint(lin, _weighted(lin, lin.res.errors), pair_count, image_count)


def product(lin: Linearised, pair_step: Tensor, image_step: Tensor) -> tuple[Tensor, Tensor]:
    """The Gauss-Newton matrix times increments `(E, 7)`, `(N, 9)`."""
    change = _change(lin, pair_step, image_step)
    return _adjoint(lin, _weighted(lin, change), len(pair_step), len(image_step))


def _weighted(lin: Linearised, errors: Tensor) -> Tensor:
    """Errors `(K, 3, P)` times their weights, their parts along the rays counting less."""
    if lin.res.along < 1:
        unit = lin.obs.spread(normalize(lin.res.rays, dim=1))
        less = (1 - lin.res.along**2) * (errors * unit).sum(1, keepdim=True)
        errors = errors - less * unit
    return lin.res.weights[:, None] * errors


def _change(lin: Linearised, pair_step: Tensor, image_step: Tensor) -> Tensor:
    """Change of the errors `(K, 3, P)` when depths follow."""
    obs, res = lin.obs, lin.res
    step = pair_step[obs.pairs].to(obs.points)
    spin = skew(step[:, :3]) + step[:, 6, None, None] * torch.eye(3, dtype=step.dtype)
    change = torch.baddbmm(
        res.turns @ step[:, 3:6, None], res.turns @ spin, lin.models
    )  # fmt: skip
    change -= obs.spread(_image_change(lin, image_step)) / res.scales[:, None, None]
    rays = obs.spread(res.rays)
    along = (change * rays).sum(1) * (lin.res.weights / res.scales[:, None])
    depth = obs.sum_by_slot(along) / lin.depth_totals.clamp(min=1e-30)
    return change - rays * (obs.spread(depth) / res.scales[:, None])[:, None]


def _image_change(lin: Linearised, image_step: Tensor) -> Tensor:
    """Change of the model's points `(S, 3, P)` in their cameras, depths held."""
    rays, depths = lin.res.rays, lin.res.depths
    step = image_step[lin.obs.slot_images].to(rays)
    model = rays * depths[:, None]
    change = torch.baddbmm(step[:, 3:6, None], skew(step[:, :3]), model)
    change[:, :2] -= step[:, 6, None, None] * model[:, :2]
    change[:, 0] -= step[:, 7, None] * depths
    change[:, 1] -= step[:, 8, None] / lin.aspects[:, None] * depths
    return change


def _adjoint(
    lin: Linearised, pull: Tensor, pair_count: int, image_count: int
) -> tuple[Tensor, Tensor]:
    """The transpose of `_change`, without its depths: `pull` is orthogonal to the rays already."""
    obs, res = lin.obs, lin.res
    local = res.turns.mT @ pull
    moment = (local @ lin.models.mT).double()
    pairs = torch.cat(
        [
            _axial(moment),
            local.sum(2).double(),
            moment.diagonal(dim1=1, dim2=2).sum(1, keepdim=True),
        ],
        1,
    )
    image_pull = obs.sum_by_slot(pull / -res.scales[:, None, None])
    model = res.rays * res.depths[:, None]
    moment = (image_pull @ model.mT).double()
    depth_moment = (image_pull * res.depths[:, None]).sum(2).double()
    images = torch.cat(
        [
            _axial(moment),
            image_pull.sum(2).double(),
            -(moment[:, 0, 0] + moment[:, 1, 1])[:, None],
            -depth_moment[:, :1],
            -depth_moment[:, 1:2] / lin.aspects[:, None],
        ],
        1,
    )
    return (
        pairs.new_zeros(pair_count, PAIR).index_add_(0, obs.pairs, pairs),
        images.new_zeros(image_count, IMAGE).index_add_(0, obs.slot_images, images),
    )


def _axial(moment: Tensor) -> Tensor:
    """The sum of `y x p` from the sum of `p y^T`: `(..., 3, 3)` to `(..., 3)`."""
    return torch.stack(
        [
            moment[..., 2, 1] - moment[..., 1, 2],
            moment[..., 0, 2] - moment[..., 2, 0],
            moment[..., 1, 0] - moment[..., 0, 1],
        ],
        -1,
    )


@dataclass
class Preconditioner:
    """The system with depths held still, ready to be solved.

    Attributes:
        pair_inverse: `(E, 7, 7)`.
        cross: `(K, 7, 11)` between a pair and the image of each observation.
        factor: Cholesky factor of the images' Schur complement.
        obs: The observations, for their indices.
        freedom: The free numbers of the images.
        extended: The same with the depth maps' own.
    """

    pair_inverse: Tensor
    cross: Tensor
    factor: Tensor
    obs: Observations
    freedom: Freedom
    extended: Freedom

    def solve(self, pair_right: Tensor, image_right: Tensor) -> tuple[Tensor, Tensor]:
        """Increments `(E, 7)`, `(F,)` for right sides of the same shapes."""
        obs, count = self.obs, self.freedom.count
        half = (self.pair_inverse @ pair_right[..., None])[obs.pairs]
        moved = (self.cross.mT @ half)[..., 0]
        total = moved.new_zeros(len(self.freedom.columns), IMAGE + DEPTH)
        reduced = -self.extended.gather(total.index_add_(0, obs.images, moved))
        reduced[:count] += image_right
        free = torch.cholesky_solve(reduced[:, None], self.factor)[:, 0]
        back = (self.cross @ self.extended.expand(free)[obs.images][..., None])[..., 0]
        rest = pair_right - torch.zeros_like(pair_right).index_add_(0, obs.pairs, back)
        return (self.pair_inverse @ rest[..., None])[..., 0], free[:count]


def precondition(
    lin: Linearised, freedom: Freedom, damping: float, pair_count: int
) -> tuple[Preconditioner, Tensor, Tensor]:
    """Factor the system with depths held still; also its damped diagonals `(E, 7)`, `(F,)`."""
    obs = lin.obs
    blocks = torch.cat([_blocks(lin, k) for k in torch.arange(len(obs.pairs)).split(64)])
    pair_block = blocks.new_zeros(pair_count, PAIR, PAIR)
    pair_block.index_add_(0, obs.pairs, blocks[:, :PAIR, :PAIR])
    pair_extra = damping * pair_block.diagonal(dim1=1, dim2=2)
    pair_extra = pair_extra + 1e-9 * pair_extra.mean() + 1e-12
    inverse = torch.linalg.inv(pair_block + torch.diag_embed(pair_extra))
    cross = blocks[:, :PAIR, PAIR:]
    extended = freedom.with_depths()
    columns, count = extended.columns, extended.count
    schur = blocks.new_zeros(count + 1, count + 1)
    index = torch.where(columns < 0, count, columns)[obs.images]
    _scatter(schur, index, index, blocks[:, PAIR:, PAIR:])
    diagonal = schur.diagonal()[:-1].clone()
    extra = damping * diagonal
    extra[freedom.count :] = 0
    order = obs.pairs.argsort(stable=True).reshape(-1, 2)
    for a in (0, 1):
        for b in (0, 1):
            left, right = order[:, a], order[:, b]
            fill = cross[left].mT @ inverse @ cross[right]
            _scatter(schur, index[left], index[right], -fill)
    # The world frame and unit are free; a little more curvature keeps the factor from failing.
    ridge = 1e-9 * diagonal + 1e-12 * diagonal.mean() + 1e-30
    factor = torch.linalg.cholesky(schur[:-1, :-1] + torch.diag(extra + ridge))
    solver = Preconditioner(inverse, cross, factor, obs, freedom, extended)
    return solver, pair_extra, extra[: freedom.count]


def _scatter(matrix: Tensor, rows: Tensor, columns: Tensor, blocks: Tensor) -> None:
    size = len(matrix)
    flat = (rows[:, :, None] * size + columns[:, None, :]).flatten()
    matrix.view(-1).index_add_(0, flat, blocks.flatten())


def _blocks(lin: Linearised, chosen: Tensor) -> Tensor:
    """`(k, 18, 18)` products of some observations' Jacobians, pair first, depths held."""
    res, slots = lin.res, lin.obs.slots[chosen]
    models, turns = lin.models[chosen, :, ::STRIDE], res.turns[chosen]
    eye = torch.eye(3, dtype=models.dtype).expand(len(chosen), 3, 3)
    pairs = torch.empty(len(chosen), PAIR, 3, models.shape[2], dtype=models.dtype)
    # Rows of a turn about axis a: (e_a x y) in the camera's frame.
    for axis in range(3):
        pairs[:, axis] = turns @ skew(eye[:, axis]) @ models
        pairs[:, 3 + axis] = turns[:, :, axis, None]
    pairs[:, 6] = turns @ models
    depths, rays = res.depths[slots, ::STRIDE], res.rays[slots, :, ::STRIDE]
    model = rays * depths[:, None]
    images = torch.zeros(len(chosen), IMAGE + DEPTH, 3, models.shape[2], dtype=models.dtype)
    for axis in range(3):
        images[:, axis] = skew(eye[:, axis]) @ model
        images[:, 3 + axis, axis] = 1
    images[:, 6, :2] = -model[:, :2]
    images[:, 7, 0] = -depths
    images[:, 8, 1] = -depths / lin.aspects[slots][:, None]
    images[:, 9] = model
    images[:, 10] = rays * depths.mean(1)[:, None, None]
    images /= -res.scales[chosen][:, None, None, None]
    jacobian = torch.cat([pairs, images], 1)
    if res.along < 1:
        unit = normalize(rays, dim=1)[:, None]
        jacobian = jacobian - (1 - res.along) * (jacobian * unit).sum(2, keepdim=True) * unit
    jacobian = jacobian.flatten(2)
    weight = STRIDE * res.weights[chosen, None, ::STRIDE].repeat(1, 1, 3)
    return ((jacobian * weight) @ jacobian.mT).double()


def solve(
    lin: Linearised,
    preconditioner: tuple[Preconditioner, Tensor, Tensor],
    pair_right: Tensor,
    image_right: Tensor,
    tolerance: float = 1e-3,
    iterations: int = 60,
) -> tuple[Tensor, Tensor]:
    """Increments: pairs `(E, 7)`, images `(N, 9)`, by preconditioned conjugate gradients.

    Args:
        lin: The system.
        preconditioner: From `precondition`, with its damping.
        pair_right: Right side `(E, 7)`, the negative gradient.
        image_right: `(N, 9)` likewise.
        tolerance: Relative decrease of the preconditioned residual to stop at.
        iterations: Products at most.
    """
    approximate, pair_extra, image_extra = preconditioner
    freedom = approximate.freedom
    rest = (pair_right.clone(), freedom.gather(image_right))
    found = (torch.zeros_like(rest[0]), torch.zeros_like(rest[1]))
    better = approximate.solve(*rest)
    direction = better
    energy = first = _dot(rest, better)
    for _ in range(iterations):
        if not energy > tolerance**2 * first:
            break
        pairs, images = product(lin, direction[0], freedom.expand(direction[1]))
        image = (pairs + pair_extra * direction[0],
                 freedom.gather(images) + image_extra * direction[1])  # fmt: skip
        length = energy / _dot(direction, image)
        found = _add(found, length, direction)
        rest = _add(rest, -length, image)
        better = approximate.solve(*rest)
        energy, before = _dot(rest, better), energy
        direction = _add(better, energy / before, direction)
    return found[0], freedom.expand(found[1])


def _dot(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    return float((a[0] * b[0]).sum() + (a[1] * b[1]).sum())


def _add(
    a: tuple[Tensor, Tensor], factor: float, b: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    return a[0] + factor * b[0], a[1] + factor * b[1]
