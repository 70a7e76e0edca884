"""How much of one view another sees, measured from depth and poses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from .frames import Frame
from .loading import LoadedFrame, load_frame
from .pairing import Pairs
from .windows import Window


@dataclass(frozen=True)
class SmallView:
    """A frame reduced to a few pixels.

    Attributes:
        points: `(N, 3)` world points of its valid pixels.
        depth: `(H, W)`, 0 where invalid.
        grey: `(H, W)` brightness.
        intrinsics: `(3, 3)` in pixels of `depth`.
        world2cam: `(4, 4)`.
    """

    points: NDArray[np.float64]
    depth: NDArray[np.float32]
    grey: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    world2cam: NDArray[np.float64]


def small_view(loaded: LoadedFrame, width: int = 64) -> SmallView:
    """Reduce a frame to `width` columns.

    Args:
        loaded: The frame.
        width: Columns of the small map.
    """
    height = max(1, round(width * loaded.size[1] / loaded.size[0]))
    window = Window(0, 0, *loaded.size, width, height)
    reduce = window.scatter_nearest if loaded.sparse_depth else window.sample_nearest
    depth = reduce(loaded.depth, loaded.size)
    intrinsics = window.matrix() @ loaded.intrinsics
    v, u = np.nonzero(depth)
    rays = np.stack((u, v, np.ones_like(u)), axis=-1) @ np.linalg.inv(intrinsics).T
    points = rays * depth[v, u, None]
    points = points @ loaded.cam2world[:3, :3].T + loaded.cam2world[:3, 3]
    world2cam = np.asarray(np.linalg.inv(loaded.cam2world), np.float64)
    colours = window.resize_image(Image.fromarray(loaded.image))
    grey = np.asarray(colours, np.float32).mean(axis=-1)
    return SmallView(points, depth, grey, intrinsics, world2cam)


@dataclass(frozen=True)
class Reprojection:
    """The points of one view, seen from another.

    Attributes:
        inside: `(N,)` which of the points fall into the other view.
        pixels: `(M, 2)` integer (column, row) of those in the other view.
        depth: `(M,)` their depth from there.
        measured: `(M,)` the depth that the other view has in that pixel, 0 where it has none.
    """

    inside: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    depth: NDArray[np.float64]
    measured: NDArray[np.float64]

    def agrees(self, tolerance: float) -> NDArray[np.bool_]:
        """Tell which points, of those inside, lie on the other view's surface."""
        return (self.measured > 0) & (
            np.abs(self.depth - self.measured) <= tolerance * self.measured
        )


def reproject(points: NDArray, view: SmallView) -> Reprojection:
    """Look up world points `(N, 3)` in another view."""
    local = points @ view.world2cam[:3, :3].T + view.world2cam[:3, 3]
    projected = local @ view.intrinsics.T
    front = local[:, 2] > 1e-9
    height, width = view.depth.shape
    u, v = np.full((2, len(points)), -1, dtype=np.int64)
    z = projected[front, 2]
    # Far outside is outside; without the limit such pixels overflow integers.
    u[front] = np.rint(np.clip(projected[front, 0] / z, -1e6, 1e6))
    v[front] = np.rint(np.clip(projected[front, 1] / z, -1e6, 1e6))
    inside = front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = u[inside], v[inside]
    measured = view.depth[v, u].astype(np.float64)
    return Reprojection(inside, np.stack((u, v), -1), local[inside, 2], measured)


def overlap(first: SmallView, second: SmallView, tolerance: float = 0.05) -> float:
    """Measure which share of each view's surface the other sees; the smaller of both shares.

    A point counts as seen where it falls into the other view and lies on its surface, within a
    relative `tolerance` of depth, so that what is hidden does not count.
    """
    if not len(first.points) or not len(second.points):
        return 0.0
    forth = reproject(first.points, second).agrees(tolerance).sum() / len(first.points)
    back = reproject(second.points, first).agrees(tolerance).sum() / len(second.points)
    return float(min(forth, back))


def find_pairs(
    frames: Sequence[Frame],
    minimum: float = 0.2,
    maximum: float = 0.8,
    per_frame: int | None = None,
    tolerance: float = 0.05,
    progress: bool = True,
) -> tuple[Pairs, NDArray[np.float64]]:
    """Pair frames by measured overlap.

    Args:
        frames: Frames of one scene.
        minimum: Least overlap of a pair.
        maximum: Most overlap; closer pairs teach little.
        per_frame: Keep at most so many pairs a frame, those nearest the middle of the range
            (others may still have chosen it); None keeps all.
        tolerance: Relative difference of depth that still counts as the same surface.
        progress: Whether to show a bar (on a terminal).

    Returns:
        Pairs `(P, 2)` and their overlap `(P,)`.
    """
    if not 0 < minimum <= maximum <= 1:
        raise ValueError(
            f"The overlap must lie within 0 < minimum <= maximum <= 1, got {minimum} to {maximum}."
        )
    quiet = None if progress else True  # None: quiet unless on a terminal
    views = [small_view(load_frame(frame)) for frame in tqdm(frames, desc="depth", disable=quiet)]
    scores = np.zeros((len(views), len(views)))
    for i in tqdm(range(len(views)), desc="overlap", disable=quiet):
        for j in range(i + 1, len(views)):
            scores[i, j] = scores[j, i] = overlap(views[i], views[j], tolerance)
    keep = (scores >= minimum) & (scores <= maximum)
    if per_frame is not None:
        distance = np.where(keep, np.abs(scores - (minimum + maximum) / 2), np.inf)
        rank = distance.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        chosen = keep & (rank < per_frame)
        keep = chosen | chosen.T
    pairs = np.argwhere(np.triu(keep, 1))
    return pairs.astype(np.int64), scores[pairs[:, 0], pairs[:, 1]]
