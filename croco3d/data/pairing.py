"""Which frames pair up, where a data set does not say: by order, by pose, or from a pairs file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_path
from .frames import Frame

Pairs = NDArray[np.int64]


def pairs_by_order(count: int, strides: Sequence[int]) -> Pairs:
    """Pair frame i of a sequence with i + s for every stride s.

    >>> pairs_by_order(4, [1, 3]).tolist()
    [[0, 1], [1, 2], [2, 3], [0, 3]]
    """
    found = [(i, i + stride) for stride in strides for i in range(count - stride)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def pairs_by_pose(cam2world: NDArray, max_degrees: float = 60.0, neighbours: int = 10) -> Pairs:
    """Pair every frame with some that look in a similar direction from nearby.

    Of the frames whose optical axes differ by at most `max_degrees`, the `4 * neighbours` nearest
    are candidates, and every fourth of them is taken, so that pairs are not all of the shortest
    baseline. This knows nothing of walls; `croco3d data pair` measures overlap instead.

    Args:
        cam2world: `(N, 4, 4)`.
        max_degrees: Between the optical axes.
        neighbours: Partners that a frame chooses; it can be chosen by more.

    Returns:
        `(P, 2)`, each unordered pair once.
    """
    axes, centres = cam2world[:, :3, 2], cam2world[:, :3, 3]
    chosen: set[tuple[int, int]] = set()
    for i in range(len(cam2world)):
        similar = axes @ axes[i] >= np.cos(np.radians(max_degrees)) - 1e-9
        similar[i] = False
        candidates = np.flatnonzero(similar)
        distance = np.linalg.norm(centres[candidates] - centres[i], axis=1)
        nearest = candidates[np.argsort(distance, kind="stable")][: 4 * neighbours]
        step = max(1, len(nearest) // neighbours)
        chosen.update((min(i, j), max(i, j)) for j in nearest[step - 1 :: step].tolist())
    return np.array(sorted(chosen), dtype=np.int64).reshape(-1, 2)


def pairs_by_shared_points(points: Sequence[NDArray], minimum: float, maximum: float) -> Pairs:
    """Pair frames that see the same reconstructed points.

    Args:
        points: For every frame, the identifiers of the points that it observes.
        minimum: Shared points over those of the frame with fewer, at least.
        maximum: The same, at most.
    """
    found = []
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            fewer = min(len(points[i]), len(points[j]))
            shared = len(np.intersect1d(points[i], points[j], assume_unique=True)) if fewer else 0
            if shared and minimum <= shared / fewer <= maximum:
                found.append((i, j))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def save_pairs(
    path: str | Path, names: Sequence[str], pairs: Pairs, overlap: NDArray[np.float64]
) -> None:
    """Write pairs with their overlap as `.npz`, or as `.json` to read and edit.

    Args:
        path: Where to.
        names: The frames' names, by which a reader finds them again.
        pairs: `(P, 2)` indices into `names`.
        overlap: `(P,)`.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".json"):
        raise ValueError(f"Pairs are written as .npz or .json, not as {path.name!r}.")
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            np.savez_compressed(temporary, pairs=pairs, overlap=overlap, names=np.array(names))
            return
        rows = [
            [names[i], names[j], round(float(value), 4)]
            for (i, j), value in zip(pairs.tolist(), overlap, strict=True)
        ]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        temporary.write_text(f'{{"pairs": [\n{lines}\n]}}\n', encoding="utf-8")


def load_pairs(path: str | Path, frames: Sequence[Frame]) -> Pairs:
    """Read what `save_pairs` wrote; pairs of frames that are not there are refused.

    Returns:
        `(P, 2)` indices into `frames`.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            names = arrays["names"].tolist()
            rows = [(names[i], names[j]) for i, j in arrays["pairs"].tolist()]
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [(row[0], row[1]) for row in content["pairs"]]
    index = {frame.name: i for i, frame in enumerate(frames)}
    missing = sorted({name for row in rows for name in row if name not in index})
    if missing:
        raise ValueError(
            f"{path} pairs {len(missing)} frames that the data set does not have, such as "
            f"{missing[0]!r}; run `croco3d data pair` again."
        )
    return np.array([(index[a], index[b]) for a, b in rows], dtype=np.int64).reshape(-1, 2)


def choose_pairs(
    frames: Sequence[Frame], pairs: str | Path | None, max_degrees: float, neighbours: int
) -> Pairs:
    """Read a pairs file if there is one, else pair by pose."""
    if pairs is not None:
        return load_pairs(pairs, frames)
    poses = np.stack([frame.cam2world for frame in frames])
    return pairs_by_pose(poses, max_degrees, neighbours)


def join_pairs(groups: Sequence[tuple[int, Pairs]]) -> Pairs:
    """Number pairs of scenes that follow each other, given each one's frame count and pairs."""
    offsets = np.cumsum([0] + [count for count, _ in groups])
    parts = [pairs + offset for (_, pairs), offset in zip(groups, offsets[:-1], strict=True)]
    return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)
