"""A room with two balls, ray-cast in closed form: the truth that exports are compared with."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from croco3d.scene import Camera, Scene

SIZE = (480, 360)
NETWORK = (128, 80)
SCALE = 128 / 480
TOP = 8
FOCAL = 400.0
CENTER = (245.0, 172.0)
BALLS = ((np.array([-0.4, 0.2, 3.0]), 0.6), (np.array([0.7, 0.5, 2.6]), 0.5))
ROOM = np.array([2.2, 1.1, 5.0])


def trace(origin, directions):
    """Nearest hit of rays `(..., 3)`: world points `(..., 3)`."""
    with np.errstate(divide="ignore"):
        walls = (ROOM - np.sign(directions) * origin) / np.abs(directions)
    distance = walls.min(-1)
    for center, radius in BALLS:
        offset = origin - center
        a = (directions**2).sum(-1)
        b = (directions * offset).sum(-1)
        root = b**2 - a * (offset @ offset - radius**2)
        hit = (-b - np.sqrt(np.maximum(root, 0))) / a
        distance = np.where((root > 0) & (hit > 0) & (hit < distance), hit, distance)
    return origin + distance[..., None] * directions


def paint(points):
    """A colour `(..., 3)` uint8 that depends smoothly on the point."""
    phase = points @ np.array([[1.3, 0.2, 0.4], [0.1, 1.7, 0.3], [0.2, 0.5, 0.9]])
    return np.rint(127.5 + 110 * np.sin(2 * phase)).astype(np.uint8)


def distance_to_surfaces(points):
    """How far points `(M, 3)` are from the nearest surface of the room."""
    gaps = [np.abs(np.linalg.norm(points - c, axis=1) - r) for c, r in BALLS]
    return np.min([*gaps, *np.abs(ROOM - np.abs(points)).T], axis=0)


def pose(angle, x):
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    turn[:3, 3] = [x, -0.1 * x, -0.8]
    return turn


def view(cam2world, pixels_u, pixels_v):
    """World points and depths of a grid of original pixels (centres at integers)."""
    u, v = np.meshgrid(pixels_u, pixels_v)
    local = np.stack([(u - CENTER[0]) / FOCAL, (v - CENTER[1]) / FOCAL, np.ones_like(u)], -1)
    points = trace(cam2world[:3, 3], local @ cam2world[:3, :3].T)
    return points, (points - cam2world[:3, 3]) @ cam2world[:3, 2]


def analytic_scene(count=3, folder: Path | None = None) -> Scene:
    """`count` exact views, cropped and reduced; photographs are written to `folder`."""
    poses = [pose(-0.4 * x, x) for x in np.linspace(-0.5, 0.5, count)]
    mapping = np.diag([1 / SCALE, 1 / SCALE, 1])
    mapping[:2, 2] = 0.5 / SCALE - 0.5, (TOP + 0.5) / SCALE - 0.5
    u = mapping[0, 0] * np.arange(NETWORK[0]) + mapping[0, 2]
    v = mapping[1, 1] * np.arange(NETWORK[1]) + mapping[1, 2]
    intrinsics = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1]])
    views = [view(p, u, v) for p in poses]
    paths = []
    for index, cam2world in enumerate(poses):
        path = None if folder is None else folder / f"photo_{index}.png"
        if path is not None:
            points, _ = view(cam2world, np.arange(SIZE[0]), np.arange(SIZE[1]))
            Image.fromarray(paint(points)).save(path)
        paths.append(None if path is None else str(path))
    generator = torch.Generator().manual_seed(0)
    return Scene(
        cameras=[Camera(torch.tensor(intrinsics), torch.tensor(p), *SIZE) for p in poses],
        pointmaps=[torch.tensor(p, dtype=torch.float32) for p, _ in views],
        depthmaps=[torch.tensor(d, dtype=torch.float32) for _, d in views],
        confidences=[torch.rand(d.shape, generator=generator) + 1 for _, d in views],
        images=[torch.tensor(paint(p)) for p, _ in views],
        names=[f"photo_{i}.png" for i in range(count)],
        pixel_to_original=[torch.tensor(mapping)] * count,
        metric=True,
        paths=paths,
        info={"graph": "complete"},
    )
