"""Sampling cameras in a room, and the overlap of what they see."""

from dataclasses import dataclass

import numpy as np

from .scene import Room

DEPTH_TOLERANCE = 0.05
_CLEARANCE = 0.2


@dataclass(frozen=True)
class CameraSettings:
    """How the cameras of a room are drawn.

    Cameras come in clusters: an anchor and neighbours at growing distance, all looking at about
    the same spot, so that a room has near as well as wide pairs.

    Attributes:
        views: cameras a room.
        cluster: cameras a cluster.
        fov: range of the horizontal field of view in degrees; one is drawn a room.
        fov_jitter: share of rooms whose views have different fields of view.
        height: range of the cameras' height in metres.
        baseline: range of a neighbour's distance from its anchor, as a share of the anchor's
            distance to what it looks at.
        turn: largest random turn of a neighbour away from the common spot, in degrees.
    """

    views: int = 24
    cluster: int = 6
    fov: tuple[float, float] = (45.0, 90.0)
    fov_jitter: float = 0.3
    height: tuple[float, float] = (0.5, 2.2)
    baseline: tuple[float, float] = (0.05, 0.8)
    turn: float = 25.0


def sample_cameras(
    rng: np.random.Generator, room: Room, size: tuple[int, int], settings: CameraSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Draw cameras in free space.

    Args:
        rng: the only source of randomness.
        room: where they stand.
        size: width and height of the images in pixels.
        settings: numbers and ranges.

    Returns:
        Intrinsics `(V, 3, 3)` in pixels and cam2world `(V, 4, 4)`, OpenCV axes, metres.
    """
    poses: list[np.ndarray] = []
    common = rng.uniform(*settings.fov)
    varied = rng.random() < settings.fov_jitter
    count = settings.views
    fovs = rng.uniform(*settings.fov, count) if varied else np.full(count, common)
    while len(poses) < count:
        wanted = min(settings.cluster, count - len(poses))
        poses += _cluster(rng, room, settings, wanted)
    intrinsics = np.stack([intrinsics_from_fov(fov, size) for fov in fovs])
    return intrinsics.astype(np.float32), np.stack(poses).astype(np.float32)


def intrinsics_from_fov(fov: float, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics of a centred camera.

    Args:
        fov: horizontal, degrees.
        size: width and height in pixels.

    Returns:
        `(3, 3)`; integer coordinates are pixel centres.
    """
    w, h = size
    f = w / 2 / np.tan(np.radians(fov) / 2)
    return np.array([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1]])


def look_at(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Pose of a camera that looks at a point with the horizon level.

    Args:
        eye: `(3,)`.
        target: `(3,)`, neither at `eye` nor straight above or below it.
        roll: turn about the optical axis in radians.

    Returns:
        cam2world `(4, 4)`, OpenCV axes in a z-up world.
    """
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right = right / np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
    pose[:3, 3] = eye
    return pose


def _cluster(
    rng: np.random.Generator, room: Room, settings: CameraSettings, count: int
) -> list[np.ndarray]:
    """An anchor and neighbours; far neighbours come last. Standards fall with every miss."""
    anchor, target = _anchor(rng, room, settings)
    poses = [look_at(anchor, target, rng.normal(0, 0.05))]
    reach = float(np.linalg.norm(target - anchor))
    low, high = np.log(settings.baseline[0]), np.log(settings.baseline[1])
    for k in range(1, count):
        level = low + (high - low) * (k - 1 + rng.random()) / max(count - 1, 1)
        for attempt in range(20):
            step = rng.normal(0, 1, 3) * [1, 1, 0.45]
            step *= reach * np.exp(level) * 0.9**attempt / np.linalg.norm(step)
            eye = anchor + step
            turn = np.radians(settings.turn) * (k / count) * reach * rng.normal(0, 0.5, 3)
            pose = look_at(eye, target + turn, rng.normal(0, 0.06))
            if _is_free(room, eye, settings) and _sees_far(room, pose):
                break
        else:
            pose = look_at(anchor, target + rng.normal(0, 0.1, 3), rng.normal(0, 0.06))
        poses.append(pose)
    return poses


def _anchor(
    rng: np.random.Generator, room: Room, settings: CameraSettings
) -> tuple[np.ndarray, np.ndarray]:
    half = room.size[:2] / 2 - 0.25
    eye, target = np.array([0.0, 0.0, room.size[2] * 0.8]), np.array([half[0], half[1], 0.5])
    for _ in range(200):
        height = rng.uniform(settings.height[0], min(settings.height[1], room.size[2] - 0.15))
        eye = np.array([*rng.uniform(-half, half), height])
        if rng.random() < 0.75 and len(room.boxes):
            box = room.boxes[int(rng.integers(0, len(room.boxes)))]
            target = rng.uniform(box[0], box[1])
        else:
            target = rng.uniform([-half[0], -half[1], 0.1], [half[0], half[1], 1.8])
        level = np.linalg.norm((target - eye)[:2])
        rise = target[2] - eye[2]
        if level < 0.7 or not -1.2 * level < rise < 0.45 * level:
            continue
        if _is_free(room, eye, settings) and _sees_far(room, look_at(eye, target)):
            break
    return eye, target


def _is_free(room: Room, eye: np.ndarray, settings: CameraSettings) -> bool:
    half = room.size[:2] / 2 - 0.15
    if (np.abs(eye[:2]) > half).any():
        return False
    if not settings.height[0] * 0.8 <= eye[2] <= min(settings.height[1] * 1.1, room.size[2] - 0.1):
        return False
    near = (eye > room.boxes[:, 0] - _CLEARANCE) & (eye < room.boxes[:, 1] + _CLEARANCE)
    return not near.all(axis=1).any()


def _sees_far(room: Room, pose: np.ndarray) -> bool:
    """Whether a bundle of rays mostly runs free, judged by the bounding boxes."""
    v, u = np.mgrid[-0.5:0.5:5j, -0.65:0.65:7j]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    distance = ray_distance(room, pose[:3, 3], rays)
    return float(np.mean(distance < 0.45)) < 0.12 and float(np.median(distance)) > 0.9


def ray_distance(room: Room, eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Distance to the first bounding box or wall, in lengths of the rays.

    Args:
        room: what the rays meet.
        eye: common origin inside the room, `(3,)`.
        rays: directions, `(R, 3)`.

    Returns:
        `(R,)`.
    """
    safe = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    shell = np.stack([[*(-room.size[:2] / 2), 0.0], [*(room.size[:2] / 2), room.size[2]]])
    leave = np.maximum(*((shell[:, None] - eye) / safe)).min(axis=1)
    if not len(room.boxes):
        return leave
    slabs = (room.boxes[:, :, None] - eye) / safe
    enter, exit_ = slabs.min(axis=1).max(axis=2), slabs.max(axis=1).min(axis=2)
    hit = np.where((enter < exit_) & (exit_ > 0), np.maximum(enter, 0), np.inf)
    return np.minimum(leave, hit.min(axis=0))


@dataclass(frozen=True)
class PairTable:
    """Every unordered pair of views that sees something in common.

    Attributes:
        indices: `(P, 2)` int32, first smaller than second.
        overlap: share of the pixels of one view that the other sees too, the smaller of the two
            directions, `(P,)` float32.
        rotation: angle between the orientations in degrees, `(P,)` float32.
        baseline: distance of the centres in metres, `(P,)` float32.
        relative_baseline: baseline over the first view's median depth, `(P,)` float32.
    """

    indices: np.ndarray
    overlap: np.ndarray
    rotation: np.ndarray
    baseline: np.ndarray
    relative_baseline: np.ndarray


def pair_table(
    depths: np.ndarray,
    intrinsics: np.ndarray,
    cam2world: np.ndarray,
    min_overlap: float = 0.1,
    stride: int = 5,
) -> PairTable:
    """Measure all pairs of views of a room.

    Args:
        depths: `(V, H, W)` z-depth in metres, 0 where there is none.
        intrinsics: `(V, 3, 3)` in pixels.
        cam2world: `(V, 4, 4)`.
        min_overlap: pairs below are left out.
        stride: every how many pixels are tried in each direction.

    Returns:
        The pairs, in order.
    """
    overlaps = overlap_matrix(depths, intrinsics, cam2world, stride)
    both = np.minimum(overlaps, overlaps.T)
    first, second = np.nonzero(np.triu(both >= min_overlap, k=1))
    rotations = cam2world[:, :3, :3]
    relative = np.einsum("pki,pkj->pij", rotations[first], rotations[second])
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    baseline = np.linalg.norm(cam2world[first, :3, 3] - cam2world[second, :3, 3], axis=1)
    median = np.array([np.median(d[d > 0]) if (d > 0).any() else 1.0 for d in depths])
    return PairTable(
        np.stack([first, second], axis=1).astype(np.int32),
        both[first, second].astype(np.float32),
        np.degrees(np.arccos(np.clip(cosine, -1, 1))).astype(np.float32),
        baseline.astype(np.float32),
        (baseline / median[first]).astype(np.float32),
    )


def overlap_matrix(
    depths: np.ndarray, intrinsics: np.ndarray, cam2world: np.ndarray, stride: int = 5
) -> np.ndarray:
    """Share of the pixels of view i that view j sees, judged by depth.

    Args:
        depths: `(V, H, W)`.
        intrinsics: `(V, 3, 3)`.
        cam2world: `(V, 4, 4)`.
        stride: as in `pair_table`.

    Returns:
        `(V, V)` in [0, 1].
    """
    count, height, width = depths.shape
    v, u = np.mgrid[stride // 2 : height : stride, stride // 2 : width : stride]
    result = np.zeros((count, count))
    for i in range(count):
        z = depths[i, v, u].astype(np.float64)
        k = intrinsics[i]
        local = np.stack([(u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z], axis=-1)
        local = local[z > 0]
        world = local @ cam2world[i, :3, :3].T.astype(np.float64) + cam2world[i, :3, 3]
        seen = _visible(world, depths, intrinsics, cam2world)
        result[i] = seen.sum(axis=1) / z.size
    return result


def _visible(
    world: np.ndarray, depths: np.ndarray, intrinsics: np.ndarray, cam2world: np.ndarray
) -> np.ndarray:
    """Whether points `(P, 3)` are seen by each view, `(V, P)` bool."""
    count, height, width = depths.shape
    offset = world[None] - cam2world[:, None, :3, 3]
    local = offset @ cam2world[:, :3, :3].astype(np.float64)
    z = local[..., 2]
    safe = np.maximum(z, 1e-6)
    focal, center = intrinsics[:, None, [0, 1], [0, 1]], intrinsics[:, None, :2, 2]
    pixel = np.rint(local[..., :2] / safe[..., None] * focal + center)
    column, row = pixel[..., 0], pixel[..., 1]
    inside = (z > 1e-3) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column = np.where(inside, column, 0).astype(np.int64)
    row = np.where(inside, row, 0).astype(np.int64)
    there = depths[np.arange(count)[:, None], row, column].astype(np.float64)
    return inside & (there > 0) & (np.abs(there - z) < DEPTH_TOLERANCE * z)
