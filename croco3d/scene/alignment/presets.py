"""Known cameras in the solvers' terms: starts, what may change, and the frame of the result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..known import KnownCamera
from ..predictions import PairPredictions
from .normal import IMAGE, Freedom
from .state import State


@dataclass
class Presets:
    """What is known, in pixels of the maps.

    Attributes:
        cameras: As given, in original pixels.
        to_original: `(N, 3, 3)` from pixels of the maps to original ones.
        sizes: (width, height) of the originals.
        focals: `(N,)` horizontal focals, NaN where unknown.
        aspects: `(N,)` vertical over horizontal focal.
        principal_points: `(N, 2)`.
        shared_focal: Whether one focal holds for all images, in original pixels.
    """

    cameras: list[KnownCamera]
    to_original: Tensor
    sizes: list[tuple[int, int]]
    focals: Tensor
    aspects: Tensor
    principal_points: Tensor
    shared_focal: bool

    @property
    def posed(self) -> list[int]:
        """The images with a known pose, fixed or initial."""
        return [n for n, camera in enumerate(self.cameras) if camera.cam2world is not None]

    @property
    def fixed_poses(self) -> list[int]:
        """The images whose pose must stay."""
        return [n for n in self.posed if self.cameras[n].use_pose == "fixed"]

    def freedom(self) -> Freedom:
        """What the solvers may change."""
        free = torch.ones(len(self.cameras), IMAGE, dtype=torch.bool)
        for n, camera in enumerate(self.cameras):
            free[n, :6] = not (camera.cam2world is not None and camera.use_pose == "fixed")
            free[n, 6] = not self._focal_fixed(camera)
            free[n, 7:] = camera.use_principal_point == "initial"
        columns = torch.where(free.flatten(), free.flatten().cumsum(0) - 1, -1)
        columns = columns.reshape(-1, IMAGE)
        if self.shared_focal and free[:, 6].any():
            columns[:, 6] = torch.where(free[:, 6], columns[free[:, 6], 6].min(), -1)
            used, packed = columns[columns >= 0].unique(return_inverse=True)
            columns[columns >= 0] = packed
        return Freedom(columns)

    def share_focals(self, focals: Tensor) -> Tensor:
        """Focals `(N,)` in pixels of the maps, made one in original pixels if so wanted."""
        if not self.shared_focal:
            return focals
        original = focals * self.to_original[:, 0, 0]
        known = [n for n, camera in enumerate(self.cameras) if camera.focal is not None]
        common = original[known].mean() if known else original.median()
        shared = common / self.to_original[:, 0, 0]
        return torch.where(torch.tensor([n in known for n in range(len(focals))]), focals, shared)

    def intrinsics(self, state: State, image: int) -> Tensor:
        """The camera matrix `(3, 3)` in original pixels; fixed numbers as they were given."""
        camera = self.cameras[image]
        matrix = torch.eye(3, dtype=torch.float64)
        matrix[0, 0] = state.focals[image]
        matrix[1, 1] = state.focals[image] * state.aspects[image]
        matrix[:2, 2] = state.principal_points[image]
        matrix = self.to_original[image] @ matrix
        if camera.focal is not None and camera.use_focal == "fixed":
            matrix[0, 0], matrix[1, 1] = camera.focals
        if camera.principal_point is not None and camera.use_principal_point == "fixed":
            matrix[:2, 2] = torch.tensor(camera.principal_point, dtype=torch.float64)
        return matrix

    def _focal_fixed(self, camera: KnownCamera) -> bool:
        shared = self.cameras if self.shared_focal else [camera]
        return any(c.focal is not None and c.use_focal == "fixed" for c in shared)


def read_presets(
    predictions: PairPredictions, cameras: list[KnownCamera], shared_focal: bool
) -> Presets:
    """Express what is known in pixels of the maps."""
    count = predictions.image_count
    maps = predictions.sizes or []
    sizes = [(w, h) for h, w in maps]
    if predictions.original_sizes is not None:
        sizes = [(int(w), int(h)) for w, h in predictions.original_sizes]
    to_original = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    for n, matrix in enumerate(predictions.pixel_to_original or []):
        rows = torch.as_tensor(matrix).double()
        to_original[n, : len(rows)] = rows
    if (to_original[:, [0, 1], [1, 0]].abs() > 1e-9).any():
        raise ValueError("pixel_to_original must scale and shift pixels, without turning them.")
    scale = to_original[:, [0, 1], [0, 1]]
    focals = torch.full((count,), torch.nan, dtype=torch.float64)
    aspects = scale[:, 0] / scale[:, 1]
    centres = torch.tensor([[w / 2, h / 2] for h, w in maps], dtype=torch.float64)
    for n, camera in enumerate(cameras):
        if camera.focal is not None:
            fx, fy = camera.focals
            focals[n] = fx / scale[n, 0]
            aspects[n] = fy / scale[n, 1] / focals[n]
        if camera.principal_point is not None:
            point = torch.tensor(camera.principal_point, dtype=torch.float64)
            centres[n] = (point - to_original[n, :2, 2]) / scale[n]
    return Presets(cameras, to_original, sizes, focals, aspects, centres, shared_focal)


def place_at_known(state: State, presets: Presets, first: Tensor) -> State:
    """Move a start to the known poses, then set those.

    Args:
        state: A start in any frame.
        presets: What is known.
        first: `(E,)` the pairs' first images, whose cameras the pairs' frames are.
    """
    state = _towards_known(state, presets)
    for n in presets.posed:
        pose = presets.cameras[n].cam2world
        state.rotations[n], state.centres[n] = pose[:3, :3], pose[:3, 3]
    return replace(
        state, pair_rotations=state.rotations[first], pair_translations=state.centres[first]
    )


def settle_frame(state: State, presets: Presets, distance: tuple[int, int, float] | None) -> State:
    """Choose the world frame and unit that nothing fixed, without moving what is fixed.

    With known poses the world is theirs. Otherwise image 0 is at the origin, and the unit makes
    the geometric mean of the pairs' scales one, or the known distance what it is.
    """
    fixed = presets.fixed_poses
    if len(fixed) < 2:
        state = _towards_known(state, presets)
    if len(presets.posed) < 2:
        factor = float(-state.pair_scales.log().mean())
        state = _rescaled(state, torch.tensor(factor).double().exp(), presets)
    if distance is not None:
        i, j, metres = distance
        apart = (state.centres[i] - state.centres[j]).norm()
        if not apart > 0:
            raise ValueError(f"Images {i} and {j} came out at one place: their distance is no use.")
        state = _rescaled(state, metres / apart, presets)
    return state


def _rescaled(state: State, factor: Tensor, presets: Presets) -> State:
    """Scale about the known camera, if there is one."""
    about = state.centres[presets.posed[0]] if presets.posed else torch.zeros(3).double()
    eye = torch.eye(3, dtype=torch.float64)
    return state.transformed(float(factor), eye, (1 - factor) * about)


def _towards_known(state: State, presets: Presets) -> State:
    """Fit the frame to the known poses; image 0 becomes the world where none is known."""
    posed: Sequence[int] = presets.posed or [0]
    if presets.posed:
        known = torch.stack([presets.cameras[n].cam2world for n in posed])
    else:
        known = torch.eye(4, dtype=torch.float64)[None]
    product = (known[:, :3, :3] @ state.rotations[list(posed)].mT).sum(0)
    left, _, right = torch.linalg.svd(product)
    rotation = left @ torch.diag(torch.tensor([1.0, 1.0, torch.linalg.det(left @ right)]).double())
    rotation = rotation @ right
    centres = state.centres[list(posed)] @ rotation.T
    # A fixed pose is met exactly; several initial ones on average.
    anchor = [posed.index(n) for n in presets.fixed_poses][:1] or list(range(len(posed)))
    middle, target = centres[anchor].mean(0), known[anchor, :3, 3].mean(0)
    offset, wanted = centres - middle, known[:, :3, 3] - target
    scale = 1.0
    if len(posed) > 1 and float(wanted.norm()) > 1e-9:
        scale = float((offset * wanted).sum() / offset.square().sum().clamp(min=1e-30))
        scale = scale if scale > 0 else float(wanted.norm() / offset.norm().clamp(min=1e-15))
    return state.transformed(scale, rotation, target - scale * middle)
