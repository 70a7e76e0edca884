"""Batches stored in landscape whose images may really be portrait.

A batch has one tensor shape. `true_shape` (height, width) says of each image whether it is stored
as it is, or is a portrait stored transposed. Encoders and heads work in the true orientation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def stored_transposed(image_size: tuple[int, int], true_shape: Tensor | None) -> list[bool] | None:
    """Tells which images of a batch are stored transposed.

    Args:
        image_size: (height, width) of the stored tensor.
        true_shape: `(B, 2)` true (height, width), or `None` where images are stored as they are.

    Returns:
        one flag per image, or `None` where none is transposed.

    Raises:
        ValueError: if a true shape is neither the stored size nor its transpose.
    """
    if true_shape is None:
        return None
    height, width = image_size
    flags = []
    for index, shape in enumerate(true_shape.tolist()):
        if shape not in ([height, width], [width, height]):
            raise ValueError(
                f"true_shape of image {index} is {shape[0]}x{shape[1]}, but its tensor is "
                f"{height}x{width}: it must be that size or its transpose {width}x{height}."
            )
        flags.append(shape != [height, width])
    return flags if any(flags) else None


def apply_oriented(
    transposed: list[bool] | None, function: Callable[..., dict[str, Any]], *tensors: Tensor
) -> dict[str, Any]:
    """Runs a function on the upright and on the transposed images of a batch and merges.

    Args:
        transposed: one flag per image, or `None`.
        function: called as `function(is_transposed, *tensors)` on a part of the batch; returns
            named tensors with a leading batch dimension, or tuples of them, or `None`s.
        *tensors: `(B, ...)`.

    Returns:
        what the function returns, in the order of the batch.
    """
    if transposed is None:
        return function(False, *tensors)
    if all(transposed):
        return function(True, *tensors)
    flags = torch.tensor(transposed, device=tensors[0].device)
    upright, turned = (~flags).nonzero().squeeze(1), flags.nonzero().squeeze(1)
    parts = [
        function(False, *(tensor[upright] for tensor in tensors)),
        function(True, *(tensor[turned] for tensor in tensors)),
    ]
    order = torch.cat((upright, turned)).argsort()
    return {name: _merge(parts[0][name], parts[1][name], order) for name in parts[0]}


def _merge(first: Any, second: Any, order: Tensor) -> Any:
    if first is None:
        return None
    if isinstance(first, tuple):
        return tuple(_merge(a, b, order) for a, b in zip(first, second, strict=True))
    return torch.cat((first, second))[order]
