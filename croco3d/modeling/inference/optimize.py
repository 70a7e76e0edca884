"""Exchanges a model's layers for faster ones, and back."""

from collections.abc import Iterator
from typing import Self

import torch
from timm.layers import Mlp
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..layers import CrossAttention, SelfAttention
from .attention import FastCrossAttention, FastSelfAttention
from .convolution import NnpackConv2d, suits_nnpack
from .memory import return_freed_memory
from .packed import PackedLinear, can_pack

# A layer that was exchanged: the module that holds it, under which name, and itself.
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
        GELUs run inside the products, rotary positions turn by one complex product, and the
        heads' large 3x3 convolutions run by Winograd's algorithm. Results are equal to about
        1e-5. The model can be saved as before, but not trained, moved, cast or loaded into until
        `restore`. On other devices only the cast acts.

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
        self._exchanged.extend(_exchange(self))
        return self

    def restore(self) -> Self:
        """Undoes `optimize_for_inference`: the layers are those from before, weights bit for bit.

        Returns:
            the model itself.
        """
        for parent, name, original in reversed(self._exchanged or []):
            for layer in getattr(parent, name).modules():
                if isinstance(layer, PackedLinear):
                    layer.unpack()
            setattr(parent, name, original)
            if isinstance(parent, GradientCheckpointingLayer):
                # Each block's packed weights, before the next one's are unpacked.
                return_freed_memory()
        self._exchanged = None
        return self


def _exchange(parent: nn.Module) -> Iterator[Place]:
    """Exchanges all layers below a module that have a faster form; yields what was there."""
    for name, layer in list(parent.named_children()):
        faster = _faster(parent, name, layer)
        if faster is None:
            yield from _exchange(layer)
            if isinstance(layer, GradientCheckpointingLayer):
                # Each block's old weights, before the next one's are packed.
                return_freed_memory()
            continue
        yield parent, name, layer
        setattr(parent, name, faster)
        if isinstance(faster, PackedLinear) and faster.gelu:
            assert isinstance(parent, Mlp)
            yield parent, "act", parent.act
            parent.act = nn.Identity()


def _faster(parent: nn.Module, name: str, layer: nn.Module) -> nn.Module | None:
    """Makes the faster form of a layer, `None` where there is none."""
    weights = list(layer.parameters())
    # Quantised weights are of types of their own, with products of their own.
    if not weights or any(w.device.type != "cpu" or type(w) is not nn.Parameter for w in weights):
        return None
    if isinstance(layer, nn.Conv2d) and suits_nnpack(layer):
        return NnpackConv2d(layer)
    if not can_pack(weights[0].dtype):
        return None
    fast = {SelfAttention: FastSelfAttention, CrossAttention: FastCrossAttention}.get(type(layer))
    if fast is not None and getattr(layer.config, "rotary_base", None) is not None:
        return fast(layer)
    if type(layer) is nn.Linear:
        gelu = name == "fc1" and isinstance(parent, Mlp) and _is_exact_gelu(parent.act)
        return PackedLinear(layer, gelu)
    return None


def _is_exact_gelu(act: nn.Module) -> bool:
    return isinstance(act, nn.GELU) and act.approximate == "none"
