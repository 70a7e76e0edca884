"""How much memory a prediction takes, found by running the model without data."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..modeling.stereo import StereoModel
from .auto import AutoCroco3D


def memory_needed(config: Any, image_size: tuple[int, int], dtype: torch.dtype) -> tuple[int, int]:
    """Finds what predicting one pair takes.

    The model runs on the meta device, which computes shapes only, while live tensors are counted.

    Args:
        config: config of a stereo model.
        image_size: (height, width) of both images.
        dtype: data type of the weights (heads stay in float32).

    Returns:
        bytes of the weights, and peak bytes of the tensors alive beside them.
    """
    config = type(config).from_dict(config.to_dict())
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = AutoCroco3D.from_config(config)
    assert isinstance(model, StereoModel)
    model = model.to(dtype=dtype).eval()  # pyright: ignore[reportCallIssue]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    images = torch.zeros(1, 3, *image_size, device="meta")
    with torch.no_grad(), _LiveBytes() as live:
        model(images, images, symmetrized=False)
    return weights, live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages made inside, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size
