"""Cameras from pairwise similarities: a spanning tree, then robust averages in closed form.

Rotations, scales and positions are averaged in this order, each a linear problem once the former
are known: rotations by the spectral relaxation (Arie-Nachimson et al. 2012), the others on the
graph's Laplacian; wrong pairs lose their weight by annealed reweighting.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pairs import spanning_tree
from .shapes import Edges

ROUNDS = 12


@dataclass
class Frames:
    """Shapes placed in the world: `unit * rotation @ x + centre`.

    Attributes:
        units: `(N,)`.
        rotations: `(N, 3, 3)`.
        centres: `(N, 3)`.
        trust: `(E,)` in 0 to 1, how well each edge agrees with the others.
    """

    units: Tensor
    rotations: Tensor
    centres: Tensor
    trust: Tensor


def tree_frames(count: int, edges: Edges) -> Frames:
    """Place shapes along the spanning tree of the heaviest edges, image 0 first."""
    order = edges.weights.argsort(descending=True, stable=True).tolist()
    pairs = list(zip(edges.first.tolist(), edges.second.tolist(), strict=True))
    index: dict[tuple[int, int], int] = {}
    for e in order:
        index.setdefault(pairs[e], e)
    tree = spanning_tree(count, [pairs[e] for e in order])
    units = torch.ones(count, dtype=torch.float64)
    rotations = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    centres = torch.zeros(count, 3, dtype=torch.float64)
    links: dict[int, list[tuple[int, int, bool]]] = {}
    for i, j in tree:
        links.setdefault(i, []).append((j, index[(i, j)], True))
        links.setdefault(j, []).append((i, index[(i, j)], False))
    placed, waiting = {0}, [0]
    while waiting:
        known = waiting.pop()
        for new, e, forward in links.get(known, []):
            if new in placed:
                continue
            scale, turn, shift = edges.scales[e], edges.rotations[e], edges.translations[e]
            if not forward:
                scale, turn = 1 / scale, turn.T
                shift = -scale * turn @ shift
            units[new] = units[known] * scale
            rotations[new] = rotations[known] @ turn
            centres[new] = centres[known] + units[known] * rotations[known] @ shift
            placed.add(new)
            waiting.append(new)
    return Frames(units, rotations, centres, torch.ones_like(edges.weights))


def average_frames(count: int, edges: Edges) -> Frames:
    """Place shapes by what all edges say, discounting those that contradict the rest.

    Reweighting starts both from the tree and from all edges alike, and keeps what more edges
    agree with.
    """
    tree = tree_frames(count, edges)
    spectral = _spectral_rotations(count, edges, edges.weights)
    trials = [_average_rotations(count, edges, start) for start in (tree.rotations, spectral)]
    rotations = max(trials, key=lambda trial: _support(edges, trial))
    trust = _trust(_turns_off(edges, rotations), 0.03)
    units, trust_units = _average_units(count, edges, trust)
    centres, trust_centres = _average_centres(count, edges, trust * trust_units, units, rotations)
    return Frames(units, rotations, centres, trust * trust_units * trust_centres)


def _average_rotations(count: int, edges: Edges, start: Tensor) -> Tensor:
    rotations = start
    for width in _widths(0.6, 0.03):
        trust = _trust(_turns_off(edges, rotations), width)
        rotations = _spectral_rotations(count, edges, edges.weights * trust)
    return rotations


def _turns_off(edges: Edges, rotations: Tensor) -> Tensor:
    """Angles `(E,)` between measured relative rotations and those of `(N, 3, 3)`, in radians."""
    predicted = rotations[edges.first].mT @ rotations[edges.second]
    return (predicted - edges.rotations).flatten(1).norm(dim=1) / 2**0.5


def _support(edges: Edges, rotations: Tensor) -> float:
    """How much the edges agree with rotations, wide enough not to prefer one perfect edge."""
    return float((edges.weights.sqrt() * _trust(_turns_off(edges, rotations), 0.2)).sum())


def _spectral_rotations(count: int, edges: Edges, weights: Tensor) -> Tensor:
    """Rotations whose relative ones fit best in the least-squares sense, relaxed."""
    blocks = torch.zeros(count, count, 3, 3, dtype=torch.float64)
    degree = torch.full((count,), 1e-12, dtype=torch.float64)
    weighted = weights[:, None, None] * edges.rotations
    for nodes, other, turns in (
        (edges.first, edges.second, weighted),
        (edges.second, edges.first, weighted.mT),
    ):
        blocks.index_put_((nodes, other), turns, accumulate=True)
        degree.index_add_(0, nodes, weights)
    root = degree.rsqrt().repeat_interleave(3)
    matrix = blocks.transpose(1, 2).reshape(3 * count, 3 * count) * root[:, None] * root
    vectors = torch.linalg.eigh(matrix).eigenvectors[:, -3:] * root[:, None]
    stacked = vectors.reshape(count, 3, 3)
    if torch.linalg.det(stacked).sum() < 0:
        stacked = -stacked
    left, _, right = torch.linalg.svd(stacked)
    sign = torch.linalg.det(left @ right)
    left[:, :, 2] *= sign[:, None]
    return (left @ right).mT


def _average_units(count: int, edges: Edges, trust: Tensor) -> tuple[Tensor, Tensor]:
    logs = edges.scales.log()
    agree = torch.ones_like(trust)
    units = torch.zeros(count, 1, dtype=torch.float64)
    for width in _widths(0.7, 0.05):
        units = _laplacian_solve(count, edges, edges.weights * trust * agree, logs[:, None])
        agree = _trust((units[edges.second] - units[edges.first])[:, 0] - logs, width)
    return units[:, 0].exp(), agree


def _average_centres(
    count: int, edges: Edges, trust: Tensor, units: Tensor, rotations: Tensor
) -> tuple[Tensor, Tensor]:
    unit = units[edges.first][:, None]
    shifts = unit * (rotations[edges.first] @ edges.translations[..., None])[..., 0]
    # Errors of a position scale with the depths seen, which have the size of the shapes' units.
    weights = edges.weights / unit[:, 0].square()
    agree = torch.ones_like(trust)
    centres = torch.zeros(count, 3, dtype=torch.float64)
    for width in _widths(0.5, 0.03):
        centres = _laplacian_solve(count, edges, weights * trust * agree, shifts)
        off = (centres[edges.second] - centres[edges.first] - shifts).norm(dim=1)
        agree = _trust(off / unit[:, 0], width)
    return centres, agree


def _laplacian_solve(count: int, edges: Edges, weights: Tensor, differences: Tensor) -> Tensor:
    """Values `(N, C)`, 0 at image 0, whose differences over the edges fit `(E, C)` best."""
    laplacian = torch.zeros(count, count, dtype=torch.float64)
    right = torch.zeros(count, differences.shape[1], dtype=torch.float64)
    weights = weights / weights.max() + 1e-12
    for nodes, other in ((edges.first, edges.second), (edges.second, edges.first)):
        laplacian.index_put_((nodes, nodes), weights, accumulate=True)
        laplacian.index_put_((nodes, other), -weights, accumulate=True)
    right.index_add_(0, edges.second, weights[:, None] * differences)
    right.index_add_(0, edges.first, -weights[:, None] * differences)
    solved = torch.linalg.solve(laplacian[1:, 1:], right[1:])
    return torch.cat([solved.new_zeros(1, differences.shape[1]), solved])


def _trust(error: Tensor, width: float) -> Tensor:
    """Geman-McClure reweighting: 1 for agreement, falling fast beyond `width`.

    The width is never less than three times the median error: most edges are to agree.
    """
    reach = (3 * error.median()).clamp(min=width)
    return 1 / (1 + (error / reach).square()).square()


def _widths(start: float, end: float) -> list[float]:
    return [start * (end / start) ** (k / (ROUNDS - 1)) for k in range(ROUNDS)]
