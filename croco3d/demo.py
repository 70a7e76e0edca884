"""The bundled room, rendered from known geometry, and how near a reconstruction comes to it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from .geometry import (
    fit_similarity,
    invert_pose,
    relative_pose,
    rotation_angle,
    transform_points,
)
from .scene import Scene

ASSETS = Path(str(files("croco3d"))) / "assets"
ROOM = ASSETS / "demo_room"

# Pixels of the pictures per pixel of the stored depth.
DEPTH_STRIDE = 2


@dataclass(frozen=True)
class DemoErrors:
    """How far a reconstruction of the room is from the truth.

    Attributes:
        pointmaps: Mean distance of points in the first camera, reconstruction and truth both
            divided by their mean distance to that camera.
        baseline: The same of the mean of many pairs of rooms, which looks at no image.
        rotation: Largest error of a camera's rotation to the first, degrees.
        position: Median distance of the cameras from their true places, after the similarity that
            fits best, divided by the median distance between true cameras; `None` for two views,
            which a similarity always brings together.
    """

    pointmaps: float
    baseline: float
    rotation: float
    position: float | None


def demo_views(count: int) -> list[Path]:
    """The first `count` of the room's six pictures."""
    return [ROOM / f"view_{index}.jpg" for index in range(count)]


def demo_errors(scene: Scene) -> DemoErrors:
    """Compare a reconstruction of the room's first views with the truth.

    Args:
        scene: What `reconstruct` returned for `demo_views`.
    """
    truth = load_file(ROOM / "truth.safetensors")
    poses = truth["cam2world"]
    to_first = invert_pose(scene.cameras[0].cam2world)
    expected, valid, found = [], [], []
    for index, points in enumerate(scene.pointmaps):
        height, width = points.shape[:2]
        surface, known = _true_points(
            truth["depth"][index].float(),
            truth["intrinsics"][index],
            scene.pixel_to_original[index],
            (height, width),
        )
        relative = relative_pose(poses[0], poses[index])
        expected.append(transform_points(relative, surface).reshape(-1, 3))
        found.append(transform_points(to_first, points).reshape(-1, 3))
        valid.append(known.flatten())
    target, mask = torch.cat(expected), torch.cat(valid)
    error = _normalised_error(torch.cat(found), target, mask)
    mean = load_file(ROOM / "mean_pointmap.safetensors")["mean_pointmap"]
    guesses = [
        _resized(mean[min(i, 1)], points.shape[:2]) for i, points in enumerate(scene.pointmaps)
    ]
    baseline = _normalised_error(torch.cat(guesses), target, mask)
    position = _position_error(scene, poses) if len(scene) > 2 else None
    return DemoErrors(error, baseline, _rotation_error(scene, poses), position)


def _true_points(
    depth: Tensor, intrinsics: Tensor, to_original: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Points `(H, W, 3)` in the camera's frame at the network's pixels, and where known."""
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in shape), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1) @ to_original.float().mT
    nearest = (pixels[..., :2] / DEPTH_STRIDE).round().long()
    column = nearest[..., 0].clamp(0, depth.shape[1] - 1)
    row = nearest[..., 1].clamp(0, depth.shape[0] - 1)
    z = depth[row, column]
    return pixels @ torch.linalg.inv(intrinsics).mT * z[..., None], z > 0


def _resized(pointmap: Tensor, shape: torch.Size) -> Tensor:
    """A pointmap `(h, w, 3)` at another size (H, W), as points `(H * W, 3)`."""
    planes = pointmap.permute(2, 0, 1)[None]
    full = interpolate(planes, shape, mode="bilinear", align_corners=False)
    return full[0].permute(1, 2, 0).reshape(-1, 3)


def _normalised_error(found: Tensor, expected: Tensor, mask: Tensor) -> float:
    """Mean distance after dividing both by their mean distance to the origin."""
    found, expected = found[mask], expected[mask]
    found = found / found.norm(dim=-1).mean()
    expected = expected / expected.norm(dim=-1).mean()
    return float((found - expected).norm(dim=-1).mean())


def _rotation_error(scene: Scene, poses: Tensor) -> float:
    first = scene.cameras[0].cam2world
    errors = [
        rotation_angle(
            relative_pose(first, camera.cam2world)[:3, :3],
            relative_pose(poses[0], poses[index])[:3, :3],
        )
        for index, camera in enumerate(scene.cameras)
    ]
    return max(float(error) for error in errors)


def _position_error(scene: Scene, poses: Tensor) -> float:
    found = torch.stack([camera.cam2world[:3, 3] for camera in scene.cameras])
    true = poses[: len(found), :3, 3]
    fitted = fit_similarity(found, true).apply(found)
    return float((fitted - true).norm(dim=-1).median() / torch.pdist(true).median())
