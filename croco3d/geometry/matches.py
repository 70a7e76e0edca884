"""Nearest neighbours and reciprocal matches between point sets and descriptor maps."""

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from croco3d.geometry.cameras import project
from croco3d.geometry.poses import invert_pose, transform_points

# Above this many dimensions a k-d tree looks at nearly every point anyway.
TREE_DIMENSIONS = 8
CHUNK_ELEMENTS = 2**26


def nearest_neighbours(queries: Tensor, points: Tensor) -> Tensor:
    """Index of the nearest of `points` to each query (Euclidean).

    Low dimensions on the CPU use a k-d tree, everything else brute force in chunks.

    Args:
        queries: `(Q, D)`.
        points: `(P, D)`, not empty, finite.

    Returns:
        `(Q,)`, long, on the queries' device.

    >>> nearest_neighbours(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]])).tolist()
    [1]
    """
    if not len(points):
        raise ValueError("There are no points to search.")
    if queries.device.type == "cpu" and points.shape[1] <= TREE_DIMENSIONS:
        tree = KDTree(points.detach().numpy())
        return torch.from_numpy(np.asarray(tree.query(queries.detach().numpy())[1])).long()
    rows = max(1, CHUNK_ELEMENTS // len(points))
    chunks = [_nearest_brute(chunk, points) for chunk in queries.detach().split(rows)]
    return torch.cat(chunks) if chunks else torch.zeros(0, dtype=torch.long, device=queries.device)


def _nearest_brute(queries: Tensor, points: Tensor) -> Tensor:
    if points.shape[1] <= TREE_DIMENSIONS:
        distance = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
        return distance.argmin(1)
    return (points.square().sum(1) / 2 - queries @ points.T).argmin(1)


def reciprocal_matches(
    points_a: Tensor,
    points_b: Tensor,
    valid_a: Tensor | None = None,
    valid_b: Tensor | None = None,
) -> Tensor:
    """Pairs of points that are each other's nearest neighbours.

    Args:
        points_a: `(..., D)`, such as `(N, 3)` or a pointmap `(H, W, 3)`.
        points_b: `(..., D)`.
        valid_a: the points that may match, bool `(...)`; points that are not finite never do.
        valid_b: likewise.

    Returns:
        `(M, 2)`, long: flat indices into the leading dimensions of `points_a` and `points_b`,
        ascending in the first.

    Raises:
        ValueError: different numbers of dimensions D.

    >>> a = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1.2, 0, 0]])
    >>> b = torch.tensor([[1.05, 0, 0], [9, 9, 9]])
    >>> reciprocal_matches(a, b).tolist()
    [[1, 0]]
    """
    if points_a.shape[-1] != points_b.shape[-1]:
        raise ValueError(
            f"Points of {points_a.shape[-1]} and of {points_b.shape[-1]} dimensions cannot match."
        )
    index_a, index_b = _usable(points_a, valid_a), _usable(points_b, valid_b)
    if not len(index_a) or not len(index_b):
        return torch.zeros(0, 2, dtype=torch.long, device=points_a.device)
    a = points_a.reshape(-1, points_a.shape[-1])[index_a]
    b = points_b.reshape(-1, points_b.shape[-1])[index_b]
    a_to_b, b_to_a = nearest_neighbours(a, b), nearest_neighbours(b, a)
    chosen = (b_to_a[a_to_b] == torch.arange(len(a), device=a.device)).nonzero().squeeze(1)
    return torch.stack((index_a[chosen], index_b[a_to_b[chosen]]), dim=1)


def _usable(points: Tensor, valid: Tensor | None) -> Tensor:
    usable = points.isfinite().all(-1)
    if valid is not None:
        usable = usable & valid
    return usable.flatten().nonzero().squeeze(1)


def fast_reciprocal_matches(
    descriptors_a: Tensor, descriptors_b: Tensor, stride: int = 8, iterations: int = 10
) -> Tensor:
    """Reciprocal matches between two descriptor maps without comparing all with all.

    MASt3R (arXiv 2406.09756), section 3.3: a sparse grid of pixels of A goes to its nearest
    neighbours in B and back, again and again. A pixel that comes back to where it left is a match
    and stops; the others go on from where they arrived. Every pair returned is reciprocal. The
    cost falls with `stride**2`; the pixels found are spread over the image.

    Args:
        descriptors_a: `(H, W, D)`, compared by Euclidean distance (for unit vectors the same as
            by cosine).
        descriptors_b: `(H2, W2, D)`.
        stride: of the starting grid, in pixels; 1 starts everywhere.
        iterations: most rounds.

    Returns:
        `(M, 2)`, long: flat pixel indices into A and B, ascending in the first, without repeats.
        See `index_to_pixel`.

    Raises:
        ValueError: shapes that do not fit.

    >>> maps = torch.nn.functional.normalize(
    ...     torch.randn(8, 8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> fast_reciprocal_matches(maps, maps, stride=4).tolist()
    [[18, 18], [22, 22], [50, 50], [54, 54]]
    """
    if descriptors_a.ndim != 3 or descriptors_a.shape[-1] != descriptors_b.shape[-1]:
        raise ValueError(
            "Descriptor maps must be (H, W, D) with equal D, got "
            f"{tuple(descriptors_a.shape)} and {tuple(descriptors_b.shape)}."
        )
    height, width = descriptors_a.shape[:2]
    rows = torch.arange(stride // 2, height, stride, device=descriptors_a.device)
    columns = torch.arange(stride // 2, width, stride, device=descriptors_a.device)
    start = (rows[:, None] * width + columns).flatten()
    flat_a, flat_b = descriptors_a.flatten(0, 1), descriptors_b.flatten(0, 1)
    found = [torch.zeros(0, 2, dtype=torch.long, device=start.device)]
    for _ in range(iterations):
        if not len(start):
            break
        there = nearest_neighbours(flat_a[start], flat_b)
        back = nearest_neighbours(flat_b[there], flat_a)
        arrived = back == start
        found.append(torch.stack((start[arrived], there[arrived]), dim=1))
        start = back[~arrived].unique()
    return torch.cat(found).unique(dim=0)


def index_to_pixel(index: Tensor, width: int) -> Tensor:
    """Pixels (u, v), `(..., 2)`, of flat indices `(...)` into images `width` pixels wide.

    >>> index_to_pixel(torch.tensor([0, 35]), 32).tolist()
    [[0, 0], [3, 1]]
    """
    return torch.stack((index % width, index // width), dim=-1)


def projective_matches(
    points_a: Tensor,
    points_b: Tensor,
    intrinsics_b: Tensor,
    cam2world_b: Tensor,
    valid_a: Tensor | None = None,
    valid_b: Tensor | None = None,
    tolerance: float = 0.02,
) -> Tensor:
    """For each pixel of A the pixel of B that sees the same surface, by projection.

    A's point is projected into B and rounded to a pixel; B's point there must be close to it.

    Args:
        points_a: `(..., H, W, 3)`, in one frame with the others.
        points_b: `(..., H2, W2, 3)`.
        intrinsics_b: `(..., 3, 3)`.
        cam2world_b: pose of camera B in that frame, `(..., 4, 4)`.
        valid_a: bool `(..., H, W)`.
        valid_b: bool `(..., H2, W2)`.
        tolerance: largest distance of the two points, as a share of the point's range from B.

    Returns:
        `(..., H, W)`, long: flat pixel indices into B, -1 where it sees nothing of the kind.

    >>> from croco3d.geometry import depth_to_pointmap, intrinsics_matrix
    >>> camera = intrinsics_matrix(torch.tensor(4.0), torch.tensor([1.0, 0.0]))
    >>> flat = depth_to_pointmap(torch.full((1, 3), 8.0), camera)
    >>> step = torch.eye(4)
    >>> step[0, 3] = 2.0
    >>> projective_matches(flat, transform_points(step, flat), camera, step).tolist()
    [[-1, 0, 1]]
    """
    height, width = points_b.shape[-3:-1]
    local = transform_points(invert_pose(cam2world_b), points_a)
    pixels = project(local, intrinsics_b).nan_to_num(nan=-1.0, posinf=-1.0, neginf=-1.0).round()
    inside = (local[..., 2] > 0) & (pixels >= 0).all(-1)
    inside &= (pixels[..., 0] < width) & (pixels[..., 1] < height)
    u = torch.where(inside, pixels[..., 0], 0.0).long()
    index = torch.where(inside, pixels[..., 1], 0.0).long() * width + u
    flat = index.flatten(-2)
    seen = points_b.flatten(-3, -2).gather(-2, flat[..., None].expand(*flat.shape, 3))
    distance = torch.linalg.vector_norm(seen - points_a.flatten(-3, -2), dim=-1)
    limit = tolerance * torch.linalg.vector_norm(local, dim=-1)
    found = inside & (distance.view(index.shape) <= limit)
    if valid_a is not None:
        found &= valid_a
    if valid_b is not None:
        found &= valid_b.flatten(-2).gather(-1, flat).view(index.shape)
    return torch.where(found, index, -1)
