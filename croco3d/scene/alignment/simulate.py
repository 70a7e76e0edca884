"""Predictions of a ray-cast room with known truth, to measure aligners without a network.

Real predictions err together: neighbouring pixels share their error, a pair shares a wrong field
of view, some pairs are plain wrong. Each kind of error can be switched on by itself.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from croco3d.geometry import pixel_grid, relative_pose, rotation_angle, translation_angle

from ..pairs import Pair, make_pairs
from ..predictions import PairPredictions
from ..scene import Scene

ROOM = torch.tensor([4.0, 1.6, 4.0])  # half sizes in metres


@dataclass
class Errors:
    """How far simulated predictions stray from the truth.

    Attributes:
        independent: Noise of every point by itself, relative to its distance.
        correlated: Smooth noise shared by neighbouring pixels, relative to the distance.
        field_of_view: Spread of a pair's relative error in its field of view.
        outlier_pairs: Share of the unordered pairs whose second view is placed at random, in both
            orders and each time elsewhere.
        unseen: Factor on `correlated` where view 2 sees what view 1 does not; confidence is low
            there.
        distances: Smooth relative error of the distances to the camera whose pixels they are, as of
            a network that guesses them; directions are right.
    """

    independent: float = 0.01
    correlated: float = 0.0
    field_of_view: float = 0.0
    outlier_pairs: float = 0.0
    unseen: float = 3.0
    distances: float = 0.0


@dataclass(frozen=True)
class PoseErrors:
    """How far cameras are from the truth, over all pairs of images.

    Attributes:
        rotation_mean: Error of the relative rotation in degrees.
        rotation_max: The largest.
        translation_mean: Error of the relative translation's direction in degrees.
        translation_max: The largest.
        focal_mean: Relative error of the focals in percent.
    """

    rotation_mean: float
    rotation_max: float
    translation_mean: float
    translation_max: float
    focal_mean: float


def pose_errors(scene: Scene, cam2world: Tensor, focals: Tensor) -> PoseErrors:
    """Compare a scene's cameras with true poses `(N, 4, 4)` and focals `(N,)`.

    Relative poses are compared, so neither the world frame nor the unit matters.
    """
    found = torch.stack([camera.cam2world for camera in scene.cameras]).double()
    first, second = torch.triu_indices(len(found), len(found), 1)
    first, second = torch.cat([first, second]), torch.cat([second, first])
    got = relative_pose(found[first], found[second])
    true = relative_pose(cam2world.double()[first], cam2world.double()[second])
    turn = rotation_angle(got[:, :3, :3], true[:, :3, :3])
    shift = translation_angle(got[:, :3, 3], true[:, :3, 3])
    estimated = torch.stack([camera.intrinsics[0, 0] for camera in scene.cameras]).double()
    focal = 100 * (estimated / focals.double() - 1).abs()
    numbers = (turn.mean(), turn.max(), shift.mean(), shift.max(), focal.mean())
    return PoseErrors(*(round(float(number), 5) for number in numbers))


@dataclass
class SimulatedRoom:
    """Predictions and the truth behind them.

    Attributes:
        predictions: What `align` takes.
        cam2world: True poses `(N, 4, 4)`, float64, in metres.
        focals: True focals in pixels `(N,)`.
        depthmaps: True depths `(N, H, W)` in metres.
        outliers: The ordered pairs whose second view is wrong.
    """

    predictions: PairPredictions
    cam2world: Tensor
    focals: Tensor
    depthmaps: Tensor
    outliers: list[Pair]

    def errors(self, scene: Scene) -> PoseErrors:
        """How far an aligned scene is from the truth."""
        return pose_errors(scene, self.cam2world, self.focals)


def simulate_room(
    count: int,
    size: tuple[int, int] = (96, 128),
    graph: str = "complete",
    errors: Errors | None = None,
    sweep: float = 1.6,
    focal: float | tuple[float, float] = 1.1,
    seed: int = 0,
) -> SimulatedRoom:
    """Predict pairs of views of a furnished room, with chosen errors.

    Args:
        count: How many views, on an arc that looks into the room.
        size: (height, width) of every view in pixels.
        graph: Scene graph of the pairs.
        errors: Errors of the predictions; independent noise of 1 % when None.
        sweep: Angle between the first and last direction of view, in radians; large values leave
            distant pairs without overlap.
        focal: Focal in units of the width, one for all or drawn per image from a range.
        seed: Decides views and errors.

    Returns:
        Predictions in arbitrary units a pair, and the truth.
    """
    errors = errors or Errors()
    generator = torch.Generator().manual_seed(seed)
    low, high = focal if isinstance(focal, tuple) else (focal, focal)
    focals = size[1] * (low + (high - low) * torch.rand(count, generator=generator).double())
    poses = _poses(count, sweep, generator)
    boxes, spheres = _furniture(generator)
    depths, images = [], []
    for pose, f in zip(poses, focals, strict=True):
        depth, hit = _ray_cast(pose, float(f), size, boxes, spheres)
        depths.append(depth)
        images.append(_shade(hit))
    views = _Views(poses, focals, torch.stack(depths), size)
    pairs = make_pairs(count, graph)
    wrong = _wrong_pairs(pairs, errors.outlier_pairs, generator)
    maps = [_predict_pair(views, pair, pair in wrong, errors, generator) for pair in pairs]
    points1, points2, confidences1, confidences2 = (torch.stack(m) for m in zip(*maps, strict=True))
    predictions = PairPredictions(
        pairs, points1, points2, confidences1, confidences2, images=torch.stack(images)
    )
    return SimulatedRoom(predictions, poses, focals, views.depths, sorted(wrong))


@dataclass
class _Views:
    poses: Tensor
    focals: Tensor
    depths: Tensor
    size: tuple[int, int]

    def points(self, index: int) -> Tensor:
        """Points `(H, W, 3)` of a view in its camera."""
        rays = _rays(float(self.focals[index]), self.size)
        return rays * self.depths[index].double()[..., None]


def _rays(focal: float, size: tuple[int, int]) -> Tensor:
    height, width = size
    grid = pixel_grid(height, width, dtype=torch.float64)
    centred = (grid - torch.tensor([width / 2, height / 2])) / focal
    return torch.cat([centred, torch.ones_like(centred[..., :1])], -1)


def _poses(count: int, sweep: float, generator: torch.Generator) -> Tensor:
    """Cameras on an arc about the room's middle, looking across it."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for n in range(count):
        jitter = torch.randn(6, generator=generator).double()
        angle = sweep * (n / max(count - 1, 1) - 0.5) + 0.04 * float(jitter[0])
        centre = torch.tensor([-2.4 * math.sin(angle), 0.0, -2.4 * math.cos(angle)]).double()
        centre = centre + 0.15 * jitter[1:4]
        target = torch.zeros(3, dtype=torch.float64)
        target[:2] = 0.2 * jitter[4:]
        forward = torch.nn.functional.normalize(target - centre, dim=0)
        down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=0)
        poses[n, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
        poses[n, :3, 3] = centre
    return poses


def _furniture(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes `(8, 6)` as (low, high) corners and spheres `(4, 4)` as (centre, radius)."""
    spots = (torch.rand(12, 3, generator=generator) - 0.5) * torch.tensor([3.0, 2.0, 3.0])
    half = 0.15 + 0.3 * torch.rand(12, 3, generator=generator)
    boxes = torch.cat([spots - half, spots + half], 1)[:8]
    return boxes.double(), torch.cat([spots, half[:, :1]], 1)[8:].double()


def _ray_cast(
    pose: Tensor, focal: float, size: tuple[int, int], boxes: Tensor, spheres: Tensor
) -> tuple[Tensor, Tensor]:
    """Depths `(H, W)` float32 and world points `(H, W, 3)` that the rays meet first."""
    direction = _rays(focal, size) @ pose[:3, :3].T
    origin = pose[:3, 3]
    room = ROOM.double()
    depth = torch.where(direction > 0, room - origin, -room - origin) / direction
    depth = depth.amin(-1)
    for box in boxes:
        slabs = torch.stack([(box[:3] - origin) / direction, (box[3:] - origin) / direction])
        near, far = slabs.amin(0).amax(-1), slabs.amax(0).amin(-1)
        depth = torch.where((near < far) & (near > 0.2) & (near < depth), near, depth)
    for sphere in spheres:
        offset = origin - sphere[:3]
        a = direction.square().sum(-1)
        b = (direction * offset).sum(-1)
        root = b.square() - a * (offset.square().sum() - sphere[3] ** 2)
        near = (-b - root.clamp(min=0).sqrt()) / a
        depth = torch.where((root > 0) & (near > 0.2) & (near < depth), near, depth)
    return depth.float(), origin + depth[..., None] * direction


def _shade(points: Tensor) -> Tensor:
    """Colours `(H, W, 3)` that follow the surface, uint8."""
    waves = torch.sin(points * torch.tensor([5.0, 7.0, 6.0]).double())
    return (127.5 + 100 * waves).to(torch.uint8)


def _wrong_pairs(pairs: list[Pair], share: float, generator: torch.Generator) -> set[Pair]:
    unordered = sorted({(min(p), max(p)) for p in pairs})
    order = torch.randperm(len(unordered), generator=generator).tolist()
    chosen = {unordered[k] for k in order[: round(share * len(unordered))]}
    return {pair for pair in pairs if (min(pair), max(pair)) in chosen}


def _predict_pair(
    views: _Views, pair: Pair, wrong: bool, errors: Errors, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    i, j = pair
    relative = torch.linalg.solve(views.poses[i], views.poses[j])
    points1, points2 = views.points(i), views.points(j)
    points2 = points2 @ relative[:3, :3].T + relative[:3, 3]
    seen2 = _visible(points2, views, i)
    if wrong:
        points2 = _misplace(points2, generator)
    bend = 1 + errors.field_of_view * torch.randn(1, generator=generator).double()
    result: list[Tensor] = []
    confidences: list[Tensor] = []
    everywhere = torch.ones_like(seen2)
    for points, eye, seen in ((points1, 0.0, everywhere), (points2, relative[:3, 3], seen2)):
        distance = points.norm(dim=-1, keepdim=True)
        smooth = _smooth_noise(views.size, generator)
        grow = torch.where(seen, 1.0, errors.unseen)[..., None]
        noise = torch.randn(points.shape, generator=generator).double()
        moved = points * torch.cat([bend, bend, torch.ones(1).double()])
        moved = moved + distance * (errors.independent * noise + errors.correlated * grow * smooth)
        if errors.distances:
            wide = _smooth_noise(views.size, generator)[..., :1]
            moved = moved + errors.distances * wide * (points - eye)
        result.append(moved)
        confidences.append(torch.where(seen, 3.0, 1.5))
    unit = torch.cat(result).norm(dim=-1).mean()
    return (
        (result[0] / unit).float(), (result[1] / unit).float(), confidences[0], confidences[1]
    )  # fmt: skip


def _visible(points: Tensor, views: _Views, index: int) -> Tensor:
    """Which points `(H, W, 3)` in a view's camera that view sees itself."""
    height, width = views.size
    focal = float(views.focals[index])
    z = points[..., 2]
    u = (points[..., 0] / z * focal + width / 2).round()
    v = (points[..., 1] / z * focal + height / 2).round()
    inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    at = v.clamp(0, height - 1).long() * width + u.clamp(0, width - 1).long()
    surface = views.depths[index].flatten()[at.flatten()].reshape(z.shape)
    return inside & (z < 1.1 * surface)


def _misplace(points: Tensor, generator: torch.Generator) -> Tensor:
    """Turn points about their centre by up to a radian about each axis and shift them by metres."""
    draw = torch.randn(6, generator=generator).double()
    axis = draw[:3]
    skew = torch.zeros(3, 3, dtype=torch.float64)
    skew[0, 1], skew[0, 2], skew[1, 2] = -axis[2], axis[1], -axis[0]
    turn = torch.linalg.matrix_exp(skew - skew.T)
    centre = points.mean((0, 1))
    return (points - centre) @ turn.T + centre + draw[3:]


def _smooth_noise(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise `(H, W, 3)` of unit variance that varies over a quarter of the image."""
    coarse = torch.randn(1, 3, 5, 5, generator=generator).double()
    field = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    return (field / field.std())[0].movedim(0, -1)
