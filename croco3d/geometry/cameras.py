"""Pinhole cameras: projection, depth maps and pointmaps, intrinsics under resizing and cropping."""

import math

import torch
from torch import Tensor

from croco3d.geometry.poses import invert_pose, leading_to_points, transform_points


def pixel_grid(
    height: int,
    width: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Pixel coordinates (u, v) of an image, `(H, W, 2)`.

    >>> pixel_grid(2, 3)[1, 2].tolist()
    [2.0, 1.0]
    """
    rows = torch.arange(height, device=device, dtype=dtype)
    columns = torch.arange(width, device=device, dtype=dtype)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((u, v), dim=-1)


def intrinsics_matrix(focal: Tensor, principal_point: Tensor) -> Tensor:
    """Camera matrices from focals in pixels and principal points.

    Args:
        focal: `(...)` for square pixels, or `(..., 2)` as (fx, fy).
        principal_point: (cx, cy) in pixels, `(..., 2)`.

    Returns:
        `(..., 3, 3)`.

    >>> intrinsics_matrix(torch.tensor(100.0), torch.tensor([16.0, 12.0])).tolist()
    [[100.0, 0.0, 16.0], [0.0, 100.0, 12.0], [0.0, 0.0, 1.0]]
    """
    if focal.ndim < principal_point.ndim:
        focal = focal[..., None]
    focal, principal_point = torch.broadcast_tensors(focal, principal_point)
    matrix = torch.diag_embed(torch.cat((focal, torch.ones_like(focal[..., :1])), dim=-1))
    matrix[..., :2, 2] = principal_point
    return matrix


def project(points: Tensor, intrinsics: Tensor, cam2world: Tensor | None = None) -> Tensor:
    """Pixels that points project to.

    Args:
        points: `(..., 3)`, in the camera's frame, or in the world where `cam2world` is given.
        intrinsics: `(..., 3, 3)`, its leading dimensions being the first ones of `points`; skew,
            or the exchanged rows of an image stored transposed, are taken into account.
        cam2world: the camera's pose `(..., 4, 4)`, likewise.

    Returns:
        (u, v), `(..., 2)`. Infinite or NaN for points in the camera's plane; check the sign of z
        for points behind the camera.

    >>> camera = intrinsics_matrix(torch.tensor(100.0), torch.tensor([16.0, 12.0]))
    >>> project(torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.5, 2.0]]), camera).tolist()
    [[16.0, 12.0], [66.0, 37.0]]
    """
    if cam2world is not None:
        points = transform_points(invert_pose(cam2world), points)
    camera = leading_to_points(intrinsics, 2, points)
    x, y, z = points.unbind(-1)
    ray = torch.stack((x / z, y / z), dim=-1)
    return (camera[..., :2, :2] * ray[..., None, :]).sum(-1) + camera[..., :2, 2]


def unproject(pixels: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points seen at pixels, in the camera's frame.

    Args:
        pixels: (u, v), `(..., 2)`.
        depth: z-depth (not the distance along the ray), `(...)`.
        intrinsics: `(..., 3, 3)`, its leading dimensions being the first ones of `pixels`.

    Returns:
        `(..., 3)`.

    >>> camera = intrinsics_matrix(torch.tensor(100.0), torch.tensor([16.0, 12.0]))
    >>> unproject(torch.tensor([66.0, 37.0]), torch.tensor(2.0), camera).tolist()
    [1.0, 0.5, 2.0]
    """
    camera = leading_to_points(intrinsics, 2, pixels)
    (a, b), (c, d) = (row.unbind(-1) for row in camera[..., :2, :2].unbind(-2))
    u, v = (pixels - camera[..., :2, 2]).unbind(-1)
    determinant = a * d - b * c
    x = (d * u - b * v) / determinant * depth
    y = (a * v - c * u) / determinant * depth
    return torch.stack((x, y, depth.expand_as(x)), dim=-1)


def depth_to_pointmap(depth: Tensor, intrinsics: Tensor, cam2world: Tensor | None = None) -> Tensor:
    """The 3-D point of every pixel of a depth map.

    Args:
        depth: z-depth `(..., H, W)`.
        intrinsics: `(..., 3, 3)`.
        cam2world: poses `(..., 4, 4)`; the camera's own frame where it is left out.

    Returns:
        `(..., H, W, 3)`.

    >>> camera = intrinsics_matrix(torch.tensor(2.0), torch.tensor([1.0, 1.0]))
    >>> depth_to_pointmap(torch.full((3, 3), 4.0), camera)[0, 2].tolist()
    [2.0, -2.0, 4.0]
    """
    height, width = depth.shape[-2:]
    grid = pixel_grid(height, width, device=depth.device, dtype=depth.dtype)
    points = unproject(grid.expand(*depth.shape, 2), depth, intrinsics)
    return points if cam2world is None else transform_points(cam2world, points)


def pointmap_to_depth(pointmap: Tensor, cam2world: Tensor | None = None) -> Tensor:
    """The z-depth of a pointmap in the camera's frame, or in the world's with the camera's pose.

    Args:
        pointmap: `(..., H, W, 3)`.
        cam2world: pose `(..., 4, 4)` of the camera, where `pointmap` is in the world frame.

    Returns:
        `(..., H, W)`.

    >>> pointmap_to_depth(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist()
    [[3.0]]
    """
    if cam2world is None:
        return pointmap[..., 2]
    forward = leading_to_points(cam2world[..., :3, 2], 1, pointmap)
    centre = leading_to_points(cam2world[..., :3, 3], 1, pointmap)
    return ((pointmap - centre) * forward).sum(-1)


def resize_intrinsics(intrinsics: Tensor, scale: float | tuple[float, float]) -> Tensor:
    """Intrinsics of an image resized by a factor, or by (horizontal, vertical) factors.

    Pixel centres are integers, so a pixel moves to `(u + 0.5) * scale - 0.5`.

    >>> camera = intrinsics_matrix(torch.tensor(100.0), torch.tensor([15.5, 11.5]))
    >>> resize_intrinsics(camera, 2.0).tolist()
    [[200.0, 0.0, 31.5], [0.0, 200.0, 23.5], [0.0, 0.0, 1.0]]
    """
    horizontal, vertical = scale if isinstance(scale, tuple) else (scale, scale)
    if not (horizontal > 0 and vertical > 0):
        raise ValueError(f"The resizing factor must be positive, got {scale}.")
    resized = intrinsics.clone()
    resized[..., 0, :2] *= horizontal
    resized[..., 1, :2] *= vertical
    resized[..., 0, 2] = (intrinsics[..., 0, 2] + 0.5) * horizontal - 0.5
    resized[..., 1, 2] = (intrinsics[..., 1, 2] + 0.5) * vertical - 0.5
    return resized


def crop_intrinsics(intrinsics: Tensor, left: float, top: float) -> Tensor:
    """Intrinsics after cutting `left` columns and `top` rows off (negative numbers pad).

    >>> camera = intrinsics_matrix(torch.tensor(100.0), torch.tensor([15.5, 11.5]))
    >>> crop_intrinsics(camera, 4, 2)[:2, 2].tolist()
    [11.5, 9.5]
    """
    cropped = intrinsics.clone()
    cropped[..., 0, 2] -= left
    cropped[..., 1, 2] -= top
    return cropped


def focal_from_fov(fov: float, size: int) -> float:
    """Focal in pixels of an image side of `size` pixels seen under `fov` degrees.

    >>> round(focal_from_fov(90.0, 200), 6)
    100.0
    """
    if not 0 < fov < 180:
        raise ValueError(f"A pinhole's field of view is between 0 and 180 degrees, got {fov}.")
    return size / (2 * math.tan(math.radians(fov) / 2))


def fov_from_focal(focal: float, size: int) -> float:
    """Field of view in degrees of an image side of `size` pixels.

    >>> round(fov_from_focal(100.0, 200), 6)
    90.0
    """
    if not focal > 0:
        raise ValueError(f"A focal must be positive, got {focal}.")
    return math.degrees(2 * math.atan(size / (2 * focal)))
