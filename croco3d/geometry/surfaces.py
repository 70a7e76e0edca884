"""Surface normals of pointmaps, and depth edges."""

import torch
from torch import Tensor
from torch.nn import functional


def normals(pointmap: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Unit surface normals that face the camera.

    The normal of a pixel is the mean of the unit normals of the (up to four) triangles it forms
    with its horizontal and vertical neighbours.

    Args:
        pointmap: `(..., H, W, 3)`, in any frame.
        mask: valid pixels, bool `(..., H, W)`; triangles with an invalid corner do not count.

    Returns:
        Normals `(..., H, W, 3)` in the pointmap's frame, and where they are defined,
        `(..., H, W)`; undefined ones are zero.

    >>> from croco3d.geometry import depth_to_pointmap, intrinsics_matrix
    >>> camera = intrinsics_matrix(torch.tensor(4.0), torch.tensor([2.0, 2.0]))
    >>> directions, defined = normals(depth_to_pointmap(torch.ones(5, 5), camera))
    >>> directions[2, 2].tolist(), bool(defined.all())
    ([0.0, 0.0, -1.0], True)
    """
    valid = pointmap.isfinite().all(-1)
    valid = valid if mask is None else valid & mask
    points = torch.where(valid[..., None], pointmap, 0.0)
    offsets = [_neighbour_offset(points, valid, *step) for step in _STEPS]
    total = torch.zeros_like(points)
    for first, second in zip(offsets, offsets[1:] + offsets[:1], strict=True):
        total = total + functional.normalize(torch.linalg.cross(first, second, dim=-1), dim=-1)
    direction = functional.normalize(total, dim=-1)
    defined = valid & (torch.linalg.vector_norm(direction, dim=-1) > 0.5)
    return torch.where(defined[..., None], direction, 0.0), defined


# Up, left, down, right: with y down and z forward, this turn makes normals face the camera.
_STEPS = ((-1, 0), (0, -1), (1, 0), (0, 1))


def _neighbour_offset(points: Tensor, valid: Tensor, rows: int, columns: int) -> Tensor:
    """Vector to the neighbour, zero where there is none, so that its cross products vanish."""
    offset = torch.zeros_like(points)
    height, width = points.shape[-3:-1]
    here = (
        ...,
        slice(max(0, -rows), height - max(0, rows)),
        slice(max(0, -columns), width - max(0, columns)),
    )
    there = (
        ...,
        slice(max(0, rows), height - max(0, -rows)),
        slice(max(0, columns), width - max(0, -columns)),
    )
    both = (valid[here] & valid[there])[..., None]
    offset[(*here, slice(None))] = torch.where(
        both, points[(*there, slice(None))] - points[(*here, slice(None))], 0.0
    )
    return offset


def depth_edges(depth: Tensor, mask: Tensor | None = None, tolerance: float = 0.1) -> Tensor:
    """Pixels beside a jump in depth, where predictions tend to fly between two surfaces.

    Args:
        depth: positive z-depth `(..., H, W)`.
        mask: valid pixels, bool `(..., H, W)`; others neither are nor make edges.
        tolerance: the jump that makes an edge, as a share of the nearer depth in the 3x3
            neighbourhood.

    Returns:
        Bool `(..., H, W)`.

    >>> depth_edges(torch.tensor([[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]])).tolist()
    [[False, False, True, True, False, False]]
    """
    valid = depth > 0 if mask is None else mask & (depth > 0)
    farthest = _window_maximum(torch.where(valid, depth, -torch.inf))
    nearest = -_window_maximum(torch.where(valid, -depth, -torch.inf))
    return valid & (farthest - nearest > tolerance * nearest)


def _window_maximum(values: Tensor) -> Tensor:
    flat = values.reshape(-1, 1, *values.shape[-2:])
    return functional.max_pool2d(flat, 3, stride=1, padding=1).reshape(values.shape)
