"""A small software renderer: coloured points as square splats with a z-buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from .camera import Camera
from .fusion import valid_masks

if TYPE_CHECKING:
    from .scene import Scene

_MAX_RADIUS = 6


@dataclass(eq=False)
class Splats:
    """Points to draw.

    Attributes:
        points: `(M, 3)` world frame.
        colors: `(M, 3)` uint8.
        widths: `(M,)` edge of each splat in world units.
    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8]
    widths: NDArray[np.float64]


def scene_splats(scene: Scene, min_confidence: float = 0.0, max_points: int = 2_000_000) -> Splats:
    """The scene's trusted pixels, each wide enough to touch its neighbours.

    Args:
        scene: The scene.
        min_confidence: Percentile of confidence, see `Scene.mask`.
        max_points: Take every k-th pixel, so that at most this many remain.
    """
    masks = valid_masks(scene, min_confidence, remove_edges=True)
    step = max(1, -(-sum(int(m.sum()) for m in masks) // max_points))
    parts = []
    for index, mask in enumerate(masks):
        width = _spacing(scene, index) * step**0.5
        maps = (scene.pointmaps[index].double(), scene.images[index], width)
        parts.append([m[mask][::step] for m in maps])
    points, colors, widths = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Splats(points, colors, widths)


def _spacing(scene: Scene, index: int) -> Tensor:
    """Distance `(H, W)` of each pixel's point to its neighbours', at most three pixel widths.

    Surfaces seen at a grazing angle have their points far apart, and would show stripes.
    """
    points = scene.pointmaps[index].double()
    width = scene.depthmaps[index].double() / float(scene.network_intrinsics(index)[0, 0])
    spacing = width.clone()
    spacing[:, 1:] = torch.maximum(spacing[:, 1:], points.diff(dim=1).norm(dim=-1))
    spacing[1:] = torch.maximum(spacing[1:], points.diff(dim=0).norm(dim=-1))
    return torch.minimum(spacing, 3 * width)


def render_splats(splats: Splats, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw splats as a camera sees them.

    Args:
        splats: What to draw.
        camera: From where; its size is the picture's.

    Returns:
        The picture `(height, width, 3)` and its depth `(height, width)`, infinite where empty.
    """
    pixels, depth = camera.project(torch.from_numpy(splats.points))
    z = depth.numpy()
    size = np.array([camera.width, camera.height])
    with np.errstate(invalid="ignore"):
        corner = np.rint(pixels.numpy()).astype(np.int64)
        radius = float(camera.intrinsics[0, 0]) * splats.widths / z / 2
    shown = (z > 0) & ((corner >= -_MAX_RADIUS) & (corner < size + _MAX_RADIUS)).all(1)
    radius = np.ceil(np.clip(radius, 0, _MAX_RADIUS)).astype(np.int64)
    # One integer holds depth, then index: the smallest one of a pixel is its nearest splat.
    keys = z.astype(np.float32).view(np.uint32).astype(np.int64) << 32 | np.arange(len(z))
    empty = np.iinfo(np.int64).max
    nearest = torch.full((camera.height * camera.width,), empty)
    for reach in range(_MAX_RADIUS + 1):
        members = np.flatnonzero(shown & (radius == reach))
        for dv in range(-reach, reach + 1):
            for du in range(-reach, reach + 1):
                u, v = corner[members, 0] + du, corner[members, 1] + dv
                inside = (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1])
                where = torch.from_numpy((v * size[0] + u)[inside])
                source = torch.from_numpy(keys[members[inside]])
                nearest.scatter_reduce_(0, where, source, "amin")
    found = nearest.numpy().reshape(camera.height, camera.width)
    hit = found < empty
    chosen = (found & 0xFFFFFFFF)[hit]
    image = np.zeros((*found.shape, 3), dtype=np.uint8)
    image[hit] = splats.colors[chosen]
    buffer = np.full(found.shape, np.inf)
    buffer[hit] = z[chosen]
    return image, buffer


def shade_by_depth(
    image: NDArray[np.uint8], depth: NDArray[np.float64], strength: float = 12.0
) -> NDArray[np.uint8]:
    """Darken pixels behind their neighbours (eye-dome lighting), which makes shapes readable.

    Args:
        image: `(H, W, 3)`.
        depth: `(H, W)`, infinite where empty.
        strength: Of the darkening.
    """
    filled = np.where(np.isfinite(depth), np.log(np.maximum(depth, 1e-12)), np.nan)
    behind = np.zeros(depth.shape)
    for du, dv in ((2, 0), (-2, 0), (0, 2), (0, -2)):
        gap = filled - np.roll(filled, (dv, du), (0, 1))
        behind += np.clip(np.nan_to_num(gap), 0, 0.06)
    shade = np.exp(-strength * behind / 4)
    return np.rint(image * shade[..., None]).astype(np.uint8)


def look_at(eye: NDArray, target: NDArray, up: NDArray) -> NDArray[np.float64]:
    """The cam2world pose `(4, 4)`, OpenCV axes, of a level camera at `eye` that faces `target`."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def oblique_camera(
    scene: Scene, splats: Splats, width: int, height: int, *, yaw: float = -20, pitch: float = 22
) -> Camera:
    """A view of the scene and its cameras from behind, beside and above the photographers.

    Args:
        scene: The scene, for its cameras.
        splats: What shall be in the picture.
        width: Of the picture in pixels.
        height: Likewise.
        yaw: Degrees around the scene from the mean camera.
        pitch: Degrees above it.
    """
    poses = torch.stack([c.cam2world for c in scene.cameras]).double().numpy()
    centers = poses[:, :3, 3]
    target = np.median(splats.points, axis=0)
    up = -poses[:, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    reach = float(np.median(np.linalg.norm(splats.points - centers.mean(0), axis=1)))
    # Cameras all around the scene have their mean inside it: then take the first one's side.
    offset = centers.mean(0) - target
    if np.linalg.norm(np.cross(offset, up)) < 0.3 * reach:
        offset = -reach * poses[0, :3, 2]
    offset = offset - up * (offset @ up)
    offset *= 1.9 * reach / np.linalg.norm(offset)
    offset = _turn(up, yaw) @ offset
    offset = _turn(np.cross(offset, up), pitch) @ offset
    pose = torch.from_numpy(look_at(target + offset, target, up))
    camera = Camera(torch.eye(3, dtype=torch.float64), pose, width, height)
    # What matters fills the picture: 98 % of the points, however far the rest flies.
    rays, depth = (t.numpy() for t in camera.project(torch.from_numpy(splats.points)))
    limits = np.percentile(rays[depth > 0.05 * reach], [1, 99], axis=0)
    rays, depth = (t.numpy() for t in camera.project(torch.from_numpy(centers)))
    framed = np.concatenate([limits, rays[depth > 0.2 * reach]])
    low, high = framed.min(0), framed.max(0)
    focal = 0.92 * float((np.array([width, height]) / np.maximum(high - low, 1e-6)).min())
    center = np.array([width, height]) / 2 - focal * (low + high) / 2
    camera.intrinsics = torch.tensor([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    return camera


def _turn(axis: NDArray, degrees: float) -> NDArray[np.float64]:
    """The rotation `(3, 3)` about an axis."""
    vector = axis / np.linalg.norm(axis) * np.radians(degrees)
    return Rotation.from_rotvec(vector).as_matrix()
