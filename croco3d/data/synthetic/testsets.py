"""Two fixed test sets on furniture and rooms that no training sees: `near` and `wide`.

What ships is a recipe: seeds, views and poses of 200 pairs each, and their checksum. The pixels
are rendered on first use and kept; poses are compared exactly and depths within a tolerance, since
drivers may differ in the last bits.
"""

import hashlib
import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..frames import PairSource
from ..registry import READERS
from .cameras import PairTable
from .catalogue import cache_folder
from .generate import RoomSettings, generate_rooms
from .reader import RoomFrames
from .shards import read_shard

TestSet = Literal["near", "wide"]

PAIRS = 200
ROOMS = 50
CHECKSUM = "531cb3e787639fac8b27f863bb8706a7ce2dbaf0f2304edeee122354b07b0404"
_POSE_TOLERANCE = 1e-3
_DEPTH_TOLERANCE = 0.01
_FILE = "test_sets.json"


def test_set(
    name: TestSet,
    folder: str | Path | None = None,
    size: tuple[int, int] = (128, 96),
    workers: int = 1,
) -> PairSource:
    """Give the pairs of a test set, rendering its rooms where they are not there yet.

    `near`: overlap at least 50 %, rotation at most 30 degrees, baseline between 5 % and a third
    of the median depth. `wide`: overlap at least 20 %.

    Args:
        name: "near" or "wide"; both are made of the same rooms.
        folder: of the rendered rooms; in the user's cache where not given.
        size: width and height in pixels; the pairs were chosen at 128x96.
        workers: processes that render.

    Returns:
        200 pairs in fixed order.

    Raises:
        ValueError: If `name` is unknown, or rooms in `folder` are not those of the recipe.
        FileNotFoundError: If the furniture is not installed.
        RendererUnavailableError: Where rooms cannot be rendered.
    """
    if name not in get_args(TestSet):
        raise ValueError(f"Unknown test set {name!r}; choices are {get_args(TestSet)}.")
    size = (int(size[0]), int(size[1]))
    where = Path(folder) if folder else cache_folder() / f"rooms-test-{size[0]}x{size[1]}"
    settings = replace(recipe_settings(), size=size)
    paths = generate_rooms(where, ROOMS, settings, workers=workers)
    recipe = load_recipe()
    for seed, path in enumerate(paths):
        _check_room(path, recipe["rooms"][seed])
    views = settings.cameras.views
    chosen = np.array(recipe[name]["views"], dtype=np.int64)
    pairs = chosen[:, 1:] + views * chosen[:, :1]
    return PairSource(f"rooms-{name}", RoomFrames(paths, [views] * ROOMS), pairs)


@READERS.register("room_test_set")
def room_test_set(
    name: TestSet, root: str | None = None, size: tuple[int, int] = (128, 96)
) -> PairSource:
    """Reader of a test set for configurations; see `test_set`.

    Args:
        name: "near" or "wide".
        root: folder of the rendered rooms; in the user's cache where not given.
        size: width and height in pixels.

    Returns:
        200 pairs in fixed order.
    """
    return test_set(name, root, size)


def recipe_settings() -> RoomSettings:
    """What the rooms of the test sets are rendered with."""
    return RoomSettings(split="test", source="furniture")


@cache
def load_recipe() -> dict[str, Any]:
    """Read the shipped recipe: `rooms` (poses, median depths), `near` and `wide` (pairs).

    Raises:
        ValueError: If it is not the one that the checksum belongs to.
    """
    data = files("croco3d.data.synthetic").joinpath(_FILE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != CHECKSUM:
        raise ValueError(
            f"{_FILE} has the checksum {digest}, not {CHECKSUM}: results would not compare. "
            "Reinstall croco3d."
        )
    return json.loads(data)


def make_recipe(folder: Path) -> bytes:
    """Choose the pairs of both sets from rendered test rooms; how the shipped recipe was made.

    Args:
        folder: where the rooms are, or get rendered.

    Returns:
        The recipe as JSON.
    """
    paths = generate_rooms(folder, ROOMS, recipe_settings())
    shards = [read_shard(path) for path in paths]
    recipe: dict[str, Any] = {"rooms": [_describe(shard) for shard in shards]}
    for name in get_args(TestSet):
        rng = np.random.default_rng(7)
        rows = [_choose(rng, shard.pairs, seed, name) for seed, shard in enumerate(shards)]
        flat = [row for room in rows for row in room]
        kept = [flat[i] for i in np.sort(rng.permutation(len(flat))[:PAIRS])]
        recipe[name] = {
            "views": [row[:3] for row in kept],
            "columns": ["overlap", "rotation", "baseline", "relative_baseline"],
            "measured": [row[3:] for row in kept],
        }
    return (json.dumps(recipe, separators=(",", ":")) + "\n").encode()


def suits(pairs: PairTable, name: TestSet) -> np.ndarray:
    """Which pairs belong into a test set, `(P,)` bool."""
    if name == "wide":
        return pairs.overlap >= 0.2
    return (
        (pairs.overlap >= 0.5)
        & (pairs.rotation <= 30)
        & (pairs.relative_baseline >= 0.05)
        & (pairs.relative_baseline <= 1 / 3)
    )


def _choose(rng: np.random.Generator, pairs: PairTable, seed: int, name: TestSet) -> list[list]:
    """At most six pairs of a room, in either order of their views."""
    fitting = np.nonzero(suits(pairs, name))[0]
    rows = []
    for k in rng.permutation(fitting)[:6]:
        first, second = (int(v) for v in pairs.indices[k][:: rng.choice([-1, 1])])
        fields = (pairs.overlap, pairs.rotation, pairs.baseline, pairs.relative_baseline)
        rows.append([seed, first, second, *(round(float(f[k]), 4) for f in fields)])
    return rows


def _describe(shard: Any) -> dict[str, Any]:
    depths = [float(np.median(depth)) for depth in shard.depths.astype(np.float32)]
    return {
        "fingerprint": shard.about["fingerprint"],
        "positions": np.round(shard.cam2world[:, :3, 3].astype(float), 4).tolist(),
        "forward": np.round(shard.cam2world[:, :3, 2].astype(float), 4).tolist(),
        "median_depth": np.round(depths, 3).tolist(),
    }


def _check_room(path: Path, expected: dict[str, Any]) -> None:
    shard = read_shard(path)
    for name, actual in (
        ("positions", shard.cam2world[:, :3, 3]),
        ("forward", shard.cam2world[:, :3, 2]),
    ):
        error = float(np.abs(actual - np.array(expected[name])).max())
        if error > _POSE_TOLERANCE:
            raise ValueError(
                f"{path}: the cameras' {name} are {error:.4f} off the recipe. Render the test "
                "rooms anew into an empty folder with the furniture package 1.8."
            )
    depths = np.array([np.median(d) for d in shard.depths.astype(np.float32)])
    error = float(np.abs(depths / np.array(expected["median_depth"]) - 1).max())
    if error > _DEPTH_TOLERANCE:
        raise ValueError(f"{path}: median depths are {100 * error:.1f} % off the recipe.")
