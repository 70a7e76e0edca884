"""Which way is up, and how to turn it."""

import torch
from torch import Tensor


def estimate_up(poses: Tensor) -> Tensor:
    """Estimate the world's up direction from cameras.

    Photographers keep the horizon level, so up is the direction most at right angles to the x axes
    of all cameras. Where those are nearly parallel it is not determined: then their mean up.

    Args:
        poses: `(N, 4, 4)` cam2world, OpenCV axes.

    Returns:
        `(3,)`, not normalised.
    """
    mean = -poses[:, :3, 1].mean(0)
    sides = poses[:, :3, 0]
    values, vectors = torch.linalg.eigh(sides.mT @ sides / len(poses))
    if values[1] < 0.02:
        return mean
    level = vectors[:, 0]
    return level * torch.sign(level @ mean)


def rotation_between(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation `(3, 3)` that takes one unit vector to another.

    Args:
        start: `(3,)` of length 1.
        end: `(3,)` of length 1.
    """
    if start @ end < -1 + 1e-12:
        side = torch.linalg.cross(start, torch.eye(3, dtype=start.dtype)[start.abs().argmin()])
        side = side / side.norm()
        return 2 * torch.outer(side, side) - torch.eye(3, dtype=start.dtype)
    both = start + end
    return (
        torch.eye(3, dtype=start.dtype)
        + 2 * torch.outer(end, start)
        - torch.outer(both, both) / (1 + start @ end)
    )
