"""Where pair predictions are kept: in memory, or in a folder that survives an interruption."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..files import atomic_path

MAPS: tuple[str, ...] = ("pointmap1", "pointmap2", "confidence1", "confidence2")

# Bumped when the layout of cached files changes, so that files of another layout are not read.
LAYOUT = 1

HALF_LIMIT = 65504.0


class Store(Protocol):
    """Keeps the maps of pairs, by the number of the pair."""

    def __contains__(self, pair: int) -> bool:
        """Whether the pair is there already."""
        ...

    def write(self, pair: int, maps: dict[str, Tensor]) -> None:
        """Keep the maps of a pair."""
        ...

    def names(self, pair: int) -> set[str]:
        """Which maps a pair has."""
        ...

    def read(self, pair: int, name: str) -> Tensor:
        """One map of a pair, float32."""
        ...


class MemoryStore:
    """Predictions in memory.

    Args:
        dtype: float32, or float16 with a scale a map, see `pack`.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._maps: dict[int, dict[str, Tensor]] = {}

    def __contains__(self, pair: int) -> bool:
        return pair in self._maps

    def write(self, pair: int, maps: dict[str, Tensor]) -> None:
        """Keep the maps of a pair."""
        self._maps[pair] = pack(maps, self.dtype)

    def names(self, pair: int) -> set[str]:
        """Which maps a pair has."""
        return set(MAPS) & set(self._maps[pair])

    def read(self, pair: int, name: str) -> Tensor:
        """One map of a pair, float32."""
        maps = self._maps[pair]
        return unpack(maps[name], maps.get(f"{name}_scale"))


class FolderStore:
    """Predictions in a folder, one file a pair, named by what they were computed from.

    A file appears under its name only when it is complete, so whatever is found can be used.

    Args:
        folder: The folder of one model at one precision; created.
        keys: What identifies each pair's images.
        dtype: float32, or float16 with a scale a map, see `pack`.
    """

    def __init__(self, folder: Path, keys: Sequence[tuple[str, str]], dtype: torch.dtype) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.dtype = dtype
        self._paths = [folder / f"{a}-{b}.safetensors" for a, b in keys]

    def __contains__(self, pair: int) -> bool:
        return self._paths[pair].is_file()

    def write(self, pair: int, maps: dict[str, Tensor]) -> None:
        """Keep the maps of a pair."""
        with atomic_path(self._paths[pair]) as temporary:
            # Written by Python, which names a full disk as an OSError.
            temporary.write_bytes(save(pack(maps, self.dtype)))

    def names(self, pair: int) -> set[str]:
        """Which maps a pair has."""
        with safe_open(self._paths[pair], framework="pt") as file:
            return set(MAPS) & set(file.keys())

    def read(self, pair: int, name: str) -> Tensor:
        """One map of a pair, float32."""
        with safe_open(self._paths[pair], framework="pt") as file:
            scale = f"{name}_scale"
            return unpack(
                file.get_tensor(name), file.get_tensor(scale) if scale in file.keys() else None
            )


class StoredMaps(Sequence[Tensor]):
    """One kind of map of all pairs, read when asked for.

    Args:
        store: Where the maps are.
        name: Which of `MAPS`.
        count: How many pairs.
    """

    def __init__(self, store: Store, name: str, count: int) -> None:
        self._store, self._name, self._count = store, name, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, pair: Any) -> Tensor:
        if not 0 <= pair < self._count:
            raise IndexError(f"Pair {pair} of {self._count}.")
        return self._store.read(pair, self._name)


def pack(maps: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Bring maps to the dtype they are kept in.

    float16 ends at 65504 and loses digits below 6e-5, so pointmaps are divided by a power of two
    near their median distance, which costs nothing in float.

    Args:
        maps: Pointmaps `(H, W, 3)` and confidences `(H, W)` by name.
        dtype: float32 or float16.

    Returns:
        The maps on the CPU, with the scales of pointmaps under `NAME_scale`.
    """
    packed = {}
    for name, values in maps.items():
        values = values.detach().float()
        if dtype == torch.float16 and name.startswith("pointmap"):
            typical = float(values.norm(dim=-1).median())
            scale = 2.0 ** round(math.log2(typical)) if 1e-30 < typical < 1e30 else 1.0
            packed[f"{name}_scale"] = torch.tensor(scale)
            values = values / scale
        if dtype == torch.float16:
            # What is not finite must stay so, to be reported where it is read.
            within = values.clamp(-HALF_LIMIT, HALF_LIMIT)
            values = torch.where(values.isfinite(), within, values)
        packed[name] = values.to("cpu", dtype).contiguous().clone()
    return packed


def unpack(values: Tensor, scale: Tensor | None) -> Tensor:
    """Undo `pack` for one map."""
    values = values.float()
    return values if scale is None else values * scale


def tensor_key(*tensors: Tensor) -> str:
    """A name for the content of tensors: dtype, shape and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def model_key(model: nn.Module, **settings: Any) -> str:
    """A name for everything about a model that its predictions depend on.

    Args:
        model: Its class, config, weights and buffers count, not where it was loaded from.
        **settings: What else matters, such as the dtype of computation.
    """
    config = getattr(model, "config", None)
    config = config.to_dict() if isinstance(config, PreTrainedConfig) else {}
    config = {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version")}
    described = json.dumps(
        [LAYOUT, type(model).__qualname__, config, settings], sort_keys=True, default=str
    )
    digest = hashlib.sha256(described.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor_key(tensor)}".encode())
    return digest.hexdigest()[:32]


def cache_folder(cache: str | os.PathLike[str], key: str) -> Path:
    """The folder of one model inside a cache.

    Raises:
        ValueError: If `cache` is a file.
    """
    path = Path(cache)
    if path.exists() and not path.is_dir():
        raise ValueError(f"The cache {path} is a file; name a folder.")
    return path / key
