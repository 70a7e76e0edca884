"""How much memory a reconstruction needs, known before it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip

# Temporary results of a decoded pair in float32 on a CPU: a fixed part, and one for each pixel of
# both views. A DPT head on the official widths was measured at 125 to 153 MB for two views of
# 224x224 and 254 to 291 MB for two of 512x384, a linear head at up to 45 MB for two of 224x224.
# In the fixed part are 41 MB of libraries loaded on the way and 36 MB left by packing weights; the
# rest is margin.
FIXED_BYTES = 180_000_000
BYTES_PER_PIXEL = 600
# The alignment holds points and weight of every prediction of one image, and a copy while it works.
BYTES_PER_OBSERVATION = 2 * 16


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a reconstruction holds at its peak.

    Attributes:
        inputs: the images at the network's size.
        weights: the model's parameters and buffers.
        features: encoder tokens of the images that are held at once.
        working: temporary results of the largest batch.
        store: predictions kept in memory; 0 with a folder.
        alignment: one image's predictions and the resulting maps, after prediction has ended.
    """

    inputs: int
    weights: int
    features: int
    working: int
    store: int
    alignment: int = 0

    @property
    def total(self) -> int:
        """All that is held at once: temporary results make room for the alignment."""
        passing = max(self.features + self.working, self.alignment)
        return self.inputs + self.weights + self.store + passing

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {format_size(getattr(self, name))}"
            for name in ("inputs", "weights", "features", "working", "store", "alignment")
        )
        return f"{format_size(self.total)} ({parts})"

    def check(self, limit: int | str | None) -> None:
        """Refuse work that would not fit.

        Args:
            limit: bytes, or text such as "8GB"; `None` for no limit.

        Raises:
            ValueError: naming both amounts and what to do about it.
        """
        if limit is None:
            return
        allowed = parse_size(limit)
        if self.total <= allowed:
            return
        if self.store + self.alignment > self.total // 2:
            remedy = "keep the predictions in a folder (cache=, --cache) or use fewer pairs"
            remedy += " (graph='swin-3', --graph swin-3)"
        elif self.features > self.total // 2:
            remedy = "use a graph of neighbours (graph='swin-3'), which holds fewer images at once"
        else:
            remedy = "use dtype='bfloat16' (--dtype bfloat16), a smaller model or a batch of 1"
        raise ValueError(
            f"The reconstruction needs about {self}, more than the {format_size(allowed)} allowed "
            f"by max_memory; {remedy}."
        )


def module_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, and of the layouts it is optimized to."""
    # Packed weights are plain attributes of their layers, whose parameters are empty meanwhile.
    packed = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    tensors = [*model.parameters(), *model.buffers(), *packed]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def working_bytes(pixels: int, dtype: torch.dtype) -> int:
    """Bytes of temporary results for views of so many pixels together.

    Heads compute in float32 whatever the dtype is, so half precision saves a part only.
    """
    share = 1.0 if dtype == torch.float32 else 0.75
    return int(FIXED_BYTES + pixels * BYTES_PER_PIXEL * share)


def parse_size(size: int | str) -> int:
    """Read a number of bytes.

    Args:
        size: bytes, or text such as "8GB", "500 MiB".

    Raises:
        ValueError: for anything else.

    >>> parse_size("1.5 GB")
    1500000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    if not match or match[2].upper() not in UNITS or float(match[1]) <= 0:
        raise ValueError(f"{size!r} is not an amount of memory; write 8GB, 500MB or 12GiB.")
    return int(float(match[1]) * UNITS[match[2].upper()])


def format_size(size: int) -> str:
    """Write a number of bytes for people.

    >>> format_size(1_530_000_000)
    '1.5 GB'
    """
    for unit in ("GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size} B"
