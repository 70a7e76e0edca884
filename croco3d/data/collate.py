"""Batches that hold every pair in both orders."""

from typing import Any

import torch

Batch = dict[str, Any]


def symmetrize(batch: Batch) -> Batch:
    """Double a batch of pairs: (a, b) at even places, (b, a) at the odd places after them.

    Keys ending in 1 and 2 that come in couples are exchanged in the swapped half; others are
    repeated. A model that knows of the layout encodes every image once.

    Args:
        batch: What default collation makes of samples: tensors `(B, ...)` and lists of strings.

    Returns:
        The same keys with `(2B, ...)`.
    """
    return {
        key: _interleave(value, batch[_partner(key)] if _partner(key) in batch else value)
        for key, value in batch.items()
    }


def _partner(key: str) -> str:
    return key[:-1] + {"1": "2", "2": "1"}.get(key[-1], key[-1])


def _interleave(first: Any, second: Any) -> Any:
    if isinstance(first, torch.Tensor):
        return torch.stack((first, second), dim=1).flatten(0, 1)
    return [value for both in zip(first, second, strict=True) for value in both]
