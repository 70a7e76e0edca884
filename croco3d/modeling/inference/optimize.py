"""Exchanges a model's layers for faster ones, and back."""

from collections.abc import Iterator
from typing import Self

import torch
from timm.layers import Mlp
from torch import nn

from .packed import PackedLinear, can_pack
from .winograd import WinogradConv2d, suits_winograd

# A layer: the module that holds it, under which name, and itself.
Place = tuple[nn.Module, str, nn.Module]


class FastInference(nn.Module):
    """What a model needs to be put into the layout that runs fastest, and back."""

    _exchanged: list[Place] | None = None

    @property
    def is_optimized(self) -> bool:
        """Whether `optimize_for_inference` was called and not undone."""
        return self._exchanged is not None

    def optimize_for_inference(self, dtype: torch.dtype | None = None) -> Self:
        """Puts the model into evaluation mode and the layout that runs fastest on its device.

        On CPUs, weights of linear layers are packed for oneDNN (held once, in the packed layout),
        GELUs run inside the products, and the heads' large 3x3 convolutions run by Winograd's
        algorithm. Results are equal to about 1e-5. The model can be saved as before, but not
        trained, moved, cast or loaded into until `restore`. On other devices only the cast acts.

        Args:
            dtype: cast to it first, such as `torch.bfloat16`, for which a CPU needs AVX512-BF16 or
                AMX to gain; heads stay in float32. The cast is not undone by `restore`.

        Returns:
            the model itself.
        """
        self.restore()
        self.eval()
        if dtype is not None:
            self.to(dtype)
        self._exchanged = []
        for parent, name, layer in list(_places(self)):
            for child, faster in _faster(parent, name, layer):
                self._exchanged.append((parent, child, getattr(parent, child)))
                setattr(parent, child, faster)
        return self

    def restore(self) -> Self:
        """Undoes `optimize_for_inference`: the layers are those from before, weights bit for bit.

        Returns:
            the model itself.
        """
        for parent, name, original in reversed(self._exchanged or []):
            current = getattr(parent, name)
            if isinstance(current, PackedLinear):
                current.unpack()
            setattr(parent, name, original)
        self._exchanged = None
        return self


def _places(model: nn.Module) -> Iterator[Place]:
    for parent in model.modules():
        for name, layer in parent.named_children():
            yield parent, name, layer


def _faster(parent: nn.Module, name: str, layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields what to exchange in `parent` on account of one of its layers."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.device.type != "cpu":
        return
    if type(layer) is nn.Linear and can_pack(weight.dtype):
        gelu = name == "fc1" and isinstance(parent, Mlp) and _is_exact_gelu(parent.act)
        if gelu:
            yield "act", nn.Identity()
        yield name, PackedLinear(layer, gelu)
    elif isinstance(layer, nn.Conv2d) and suits_winograd(layer):
        yield name, WinogradConv2d(layer)


def _is_exact_gelu(act: nn.Module) -> bool:
    return isinstance(act, nn.GELU) and act.approximate == "none"
