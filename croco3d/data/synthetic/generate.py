"""Rendering many rooms into a folder, in several processes, again and again until all are there."""

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ...files import atomic_path
from .attributions import attribution_rows, write_attributions
from .cameras import CameraSettings, pair_table, sample_cameras
from .catalogue import Source, Split, load_catalogue, uses_furniture
from .effects import PhotoSettings, develop
from .layout import SPLIT_SALT, sample_room
from .renderer import RoomRenderer
from .shards import RoomShard, shard_path, write_shard

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 1


@dataclass(frozen=True)
class RoomSettings:
    """What follows from a seed.

    Attributes:
        split: whose furniture and seeds to use.
        size: width and height of the views in pixels.
        source: see `load_catalogue`.
        cameras: how cameras are drawn.
        photo: how light becomes a picture.
        min_overlap: pairs of views below are not listed.
        supersample: see `RoomRenderer`.
    """

    split: Split = "train"
    size: tuple[int, int] = (128, 96)
    source: Source = "auto"
    cameras: CameraSettings = field(default_factory=CameraSettings)
    photo: PhotoSettings = field(default_factory=PhotoSettings)
    min_overlap: float = 0.1
    supersample: int = 2


def make_renderer(settings: RoomSettings) -> RoomRenderer:
    """Make the renderer that `render_room` needs; it is reused for many rooms.

    Raises:
        RendererUnavailableError: Where rooms cannot be rendered; says what to install.
    """
    catalogue = load_catalogue(settings.split, settings.source)
    return RoomRenderer(catalogue, settings.size, settings.supersample)


def render_room(renderer: RoomRenderer, settings: RoomSettings, seed: int) -> RoomShard:
    """Furnish and render the room of a seed.

    Args:
        renderer: made by `make_renderer` from the same settings.
        settings: what to draw.
        seed: 0 or more; rooms of different splits differ for equal seeds.

    Returns:
        Views and pairs; the same on every call on one machine. Drivers may differ in the last
        bits of colours and depths, never in the room, cameras and pieces.
    """
    catalogue = renderer.catalogue
    room = sample_room(catalogue, seed)
    rng = np.random.default_rng([SPLIT_SALT[settings.split], seed, 1])
    intrinsics, poses = sample_cameras(rng, room, settings.size, settings.cameras)
    renderer.load(room)
    frames = [renderer.render(k, pose) for k, pose in zip(intrinsics, poses, strict=True)]
    look = rng.random(4)
    images = np.stack([develop(f.radiance, rng, settings.photo, look) for f in frames])
    depths = np.stack([f.depth for f in frames])
    pairs = pair_table(depths, intrinsics, poses, settings.min_overlap)
    about = {
        "split": settings.split,
        "seed": seed,
        "fingerprint": room.fingerprint(),
        "pieces": sorted({catalogue.pieces[p.piece].name for p in room.placed}),
    }
    return RoomShard(images, depths.astype(np.float16), intrinsics, poses, pairs, about)


def generate_rooms(
    folder: str | os.PathLike[str],
    rooms: int,
    settings: RoomSettings | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Render rooms into a folder; those already there are kept, so it can be run again.

    Args:
        folder: gets one shard a room, `dataset.json` and `attributions.csv`.
        rooms: how many; their seeds are `seed`, `seed + 1`, ...
        settings: what to draw.
        seed: of the first room.
        workers: processes that render; each takes about 0.6 GB.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        Paths of the shards, in order of their seeds.

    Raises:
        ValueError: If the folder holds rooms made with other settings, or a number is negative.
        RendererUnavailableError: Where rooms cannot be rendered; says what to install.
    """
    settings = settings or RoomSettings()
    if rooms < 1 or seed < 0 or workers < 1:
        raise ValueError(
            f"rooms and workers must be at least 1 and seed at least 0, got rooms={rooms}, "
            f"workers={workers}, seed={seed}."
        )
    folder = Path(folder)
    _claim(folder, settings)
    paths = [shard_path(folder, s) for s in range(seed, seed + rooms)]
    missing = [
        s for s, path in zip(range(seed, seed + rooms), paths, strict=True) if not path.is_file()
    ]
    bar = tqdm(total=rooms, initial=rooms - len(missing), desc="rooms", unit="room",
               disable=None if progress else True)  # fmt: skip
    with bar:
        for _ in _rendered(folder, settings, missing, workers):
            bar.update()
    return paths


def _claim(folder: Path, settings: RoomSettings) -> None:
    """Record the settings of a new folder, or make sure that an old one has the same."""
    furnished = uses_furniture(settings.source)
    record = asdict(settings) | {"version": GENERATOR_VERSION, "furnished": furnished}
    text = json.dumps(record, indent=2)
    path = folder / "dataset.json"
    if path.is_file():
        if json.loads(path.read_text()) != json.loads(text):
            raise ValueError(
                f"{folder} holds rooms made with other settings ({path}). Choose an empty folder, "
                "or pass the same settings to continue."
            )
        return
    rows = attribution_rows(load_catalogue(settings.split, settings.source))
    write_attributions(folder / "attributions.csv", rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")


def _rendered(
    folder: Path, settings: RoomSettings, seeds: list[int], workers: int
) -> Iterator[int]:
    if not seeds:
        return
    if workers == 1:
        renderer = make_renderer(settings)
        try:
            for seed in seeds:
                write_shard(shard_path(folder, seed), render_room(renderer, settings, seed))
                yield seed
        finally:
            renderer.close()
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (settings,)) as pool:
        futures = [pool.submit(_work, folder, settings, seed) for seed in seeds]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker_renderer: RoomRenderer | None = None


def _start_worker(settings: RoomSettings) -> None:
    global _worker_renderer
    # One thread each: the processes already fill the machine.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    _worker_renderer = make_renderer(settings)


def _work(folder: Path, settings: RoomSettings, seed: int) -> int:
    assert _worker_renderer is not None
    write_shard(shard_path(folder, seed), render_room(_worker_renderer, settings, seed))
    return seed
