"""A scene whose every depth and colour follows from a formula, for tests to compare with."""

import numpy as np

from croco3d.data import Frame, PairDataset, PairSource
from croco3d.data.loading import load_frame

# A tilted plane n.x = d in the world and a smooth texture over it: every pixel's depth and colour
# follow from its ray, so each transform can be checked without trusting another.
NORMAL = np.array([0.15, -0.2, 1.0]) / np.linalg.norm([0.15, -0.2, 1.0])
DISTANCE = 3.0


def rotation(rx, ry, rz):
    cx, sx, cy, sy, cz, sz = (*(f(a) for a in (rx, ry, rz) for f in (np.cos, np.sin)),)
    mx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    my = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    mz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return mz @ my @ mx


def pose(rx=0.0, ry=0.0, rz=0.0, t=(0, 0, 0)):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation(rx, ry, rz), t
    return result


def plane_depth(intrinsics, cam2world, u, v):
    """z-depth of the plane at pixel coordinates `(...,)`."""
    rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(intrinsics).T
    world = rays @ cam2world[:3, :3].T
    return (DISTANCE - cam2world[:3, 3] @ NORMAL) / (world @ NORMAL)


def texture(points):
    """Slow waves over the world's x and y, in [0, 255]."""
    waves = np.stack(
        (
            np.sin(2 * points[..., 0]),
            np.cos(2 * points[..., 1]),
            np.sin(points[..., 0] + points[..., 1]),
        ),
        -1,
    )
    return 127.5 + 100 * waves


def plane_frame(name, size, intrinsics, cam2world, **more):
    v, u = np.indices((size[1], size[0])).astype(float)
    depth = plane_depth(intrinsics, cam2world, u, v)
    camera = depth[..., None] * (
        np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(intrinsics).T
    )
    points = camera @ cam2world[:3, :3].T + cam2world[:3, 3]
    image = texture(points).round().astype(np.uint8)
    return Frame(image, depth.astype(np.float32), intrinsics, cam2world, name, **more)


def camera(focal, cx, cy, focal_y=None):
    return np.array([[focal, 0, cx], [0, focal_y or focal, cy], [0, 0, 1.0]])


def plane_source(size=(160, 120), portrait=False, **more):
    if portrait:
        size = (size[1], size[0])
    w, h = size
    first = plane_frame(
        "first",
        size,
        camera(150, w / 2 - 7, h / 2 + 4, 155),
        pose(0.1, -0.2, 0.05, (0.2, 0.1, -0.3)),
        **more,
    )
    second = plane_frame(
        "second",
        size,
        camera(140, w / 2 + 3, h / 2 - 6),
        pose(-0.1, 0.15, 0.3, (-0.3, 0.2, 0.1)),
        **more,
    )
    return PairSource("plane", [first, second], np.array([[0, 1]]))


def check_view(sample, number, depth_tolerance):
    """Every valid pixel: projection, plane equation, depth and colour."""
    intrinsics = sample[f"intrinsics{number}"].double().numpy()
    cam2world = sample[f"cam2world{number}"].double().numpy()
    points = sample[f"pointmap{number}"].double().numpy()
    valid = sample[f"valid{number}"].numpy()
    depth = sample[f"depth{number}"].double().numpy()
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    projected = local @ intrinsics.T
    projected = projected[..., :2] / np.where(valid[..., None], projected[..., 2:], 1)
    v, u = np.indices(valid.shape).astype(float)
    assert np.abs(projected - np.stack((u, v), -1))[valid].max() < 1e-3
    np.testing.assert_allclose(local[..., 2][valid], depth[valid], rtol=1e-5)
    assert np.abs(depth - plane_depth(intrinsics, cam2world, u, v))[valid].max() < depth_tolerance
    colour = (sample[f"pixel_values{number}"].permute(1, 2, 0).double().numpy() + 1) * 127.5
    inner = (slice(4, -4), slice(4, -4))
    exact = texture(points)[inner][valid[inner]]
    return np.abs(colour[inner][valid[inner]] - exact).max()


def plane_views(count=3, size=(48, 36), turn=0.08, step=0.12):
    """Frames of the plane from a camera that moves and turns a little."""
    w, h = size
    intrinsics = camera(1.1 * w, w / 2 - 0.7, h / 2 + 0.4, 1.15 * w)
    poses = [
        pose(0.05 * i, -turn * i, 0.03 * i, (step * i - 0.1, 0.05 * i, -0.1 * i))
        for i in range(count)
    ]
    return [plane_frame(f"view{i}", size, intrinsics, p) for i, p in enumerate(poses)]


def check_source(source, views, pairs=None, colour=40, depth=0.02):
    """Compare a reader's frames with the truth, and samples with the scene's formula.

    Colours go through lossy files and steep little textures, hence the wide margin: a wrong file,
    pose or half pixel of principal point is caught by geometry.
    """

    assert len(source.frames) == len(views)
    resolution = (30, 40) if views[0].image.shape[0] > views[0].image.shape[1] else (40, 30)
    for frame, truth in zip(source.frames, views, strict=True):
        loaded = load_frame(frame)
        np.testing.assert_allclose(loaded.intrinsics, truth.intrinsics, atol=1e-4)
        np.testing.assert_allclose(loaded.cam2world, truth.cam2world, atol=1e-5)
    if pairs is not None:
        assert sorted(map(tuple, source.pairs.tolist())) == sorted(pairs)
    sample = PairDataset(source, resolution, crop="keep", max_unreadable=0)[0]
    for number in (1, 2):
        assert sample[f"valid{number}"].float().mean() > 0.9
        assert check_view(sample, number, depth) < colour
