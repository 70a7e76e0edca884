"""One rendered room a file: safetensors, so that single views can be read without the rest."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ...files import atomic_path
from .cameras import PairTable

_PAIR_FIELDS = ("overlap", "rotation", "baseline", "relative_baseline")


@dataclass
class RoomShard:
    """Views of a room.

    Attributes:
        images: `(V, H, W, 3)` uint8 sRGB.
        depths: z-depth in metres, `(V, H, W)` float16, 0 where there is none.
        intrinsics: `(V, 3, 3)` float32, pixels; integer coordinates are pixel centres.
        cam2world: `(V, 4, 4)` float32, OpenCV axes, metres, z up in the world.
        pairs: what pairs of views share.
        about: split, seed, names of the pieces, fingerprint of the room.
    """

    images: np.ndarray
    depths: np.ndarray
    intrinsics: np.ndarray
    cam2world: np.ndarray
    pairs: PairTable
    about: dict[str, Any]


def shard_path(folder: Path, seed: int) -> Path:
    """Where the room of a seed lies in `folder`."""
    return folder / f"room-{seed:07d}.safetensors"


def write_shard(path: Path, shard: RoomShard) -> None:
    """Write a room; the same content gives the same bytes.

    Args:
        path: replaced only once all is written.
        shard: what to write.
    """
    tensors = {
        "images": shard.images,
        "depths": shard.depths.astype(np.float16),
        "intrinsics": shard.intrinsics.astype(np.float32),
        "cam2world": shard.cam2world.astype(np.float32),
    }
    tensors |= {f"pairs.{name}": value for name, value in asdict(shard.pairs).items()}
    data = save(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()},
        metadata={"room": json.dumps(shard.about, sort_keys=True)},
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_pairs(path: Path) -> tuple[PairTable, np.ndarray, dict[str, Any]]:
    """Read everything but the pixels.

    Args:
        path: a shard.

    Returns:
        Pairs, intrinsics `(V, 3, 3)`, and what `RoomShard.about` says, with `size` (width, height)
        added.
    """
    with safe_open(path, framework="numpy") as handle:
        fields = {name: handle.get_tensor(f"pairs.{name}") for name in ("indices", *_PAIR_FIELDS)}
        about = json.loads((handle.metadata() or {})["room"])
        _, height, width = handle.get_slice("depths").get_shape()
        about["size"] = (width, height)
        return PairTable(**fields), handle.get_tensor("intrinsics"), about


def read_shard(path: Path) -> RoomShard:
    """Read a whole room.

    Args:
        path: a shard.

    Returns:
        The room as it was written.
    """
    pairs, intrinsics, about = read_pairs(path)
    with safe_open(path, framework="numpy") as handle:
        del about["size"]
        images, depths = handle.get_tensor("images"), handle.get_tensor("depths")
        return RoomShard(images, depths, intrinsics, handle.get_tensor("cam2world"), pairs, about)
