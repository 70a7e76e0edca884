"""Exchanges a model's layers for faster ones, and back."""

from collections.abc import Iterator
from typing import Self

import torch
from timm.layers import Mlp
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..layers import CrossAttention, SelfAttention
from .convolution import NnpackConv2d, suits_nnpack
from .memory import return_freed_memory
from .packed import PackedLinear, can_pack
from .rotary import ComplexTurn, side_by_side

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
            exchanged = getattr(parent, name)
            setattr(parent, name, original)
            if isinstance(exchanged, PackedLinear):
                exchanged.unpack()
                del exchanged
                # Before the next one is unpacked.
                return_freed_memory()
        self._exchanged = None
        return self


def _exchange(parent: nn.Module) -> Iterator[Place]:
    """Exchanges all layers below a module that have a faster form; yields what was there."""
    if isinstance(parent, SelfAttention | CrossAttention):
        yield from _exchange_turn(parent)
    for name, layer in list(parent.named_children()):
        if _is_adapted(layer):
            continue
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


def _exchange_turn(attention: SelfAttention | CrossAttention) -> Iterator[Place]:
    """Packs the products that positions turn, in the order of the faster turn, and takes that."""
    dim, turned = attention.proj.in_features, _TURNED[type(attention)]
    products = {name: getattr(attention, name) for name in turned}
    rotary = getattr(attention.config, "rotary_base", None) is not None
    if not rotary or not all(_suits_packing(product) for product in products.values()):
        return
    for name, product in products.items():
        first = side_by_side(turned[name] * dim, dim // attention.num_heads)
        rows = torch.cat((first, torch.arange(len(first), product.out_features)))
        yield attention, name, product
        setattr(attention, name, PackedLinear(product, rows=rows))
    yield attention, "turn", attention.turn
    attention.turn = ComplexTurn()


# The products whose results positions turn, and how many times `dim` rows of each.
_TURNED = {SelfAttention: {"qkv": 2}, CrossAttention: {"query": 1, "key": 1}}


def _faster(parent: nn.Module, name: str, layer: nn.Module) -> nn.Module | None:
    """Makes the faster form of a layer, `None` where there is none."""
    if isinstance(layer, nn.Conv2d) and _is_plain(layer) and suits_nnpack(layer):
        return NnpackConv2d(layer)
    if isinstance(layer, nn.Linear) and _suits_packing(layer):
        gelu = name == "fc1" and isinstance(parent, Mlp) and _is_exact_gelu(parent.act)
        return PackedLinear(layer, gelu)
    return None


def _is_adapted(layer: nn.Module) -> bool:
    # Adapters of peft read the weights of the layer below them and their own while they compute.
    return hasattr(layer, "base_layer")


def _suits_packing(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and _is_plain(layer) and can_pack(layer.weight.dtype)


def _is_plain(layer: nn.Module) -> bool:
    # Quantised weights are of types of their own, with products of their own.
    return all(w.device.type == "cpu" and type(w) is nn.Parameter for w in layer.parameters())


def _is_exact_gelu(act: nn.Module) -> bool:
    return isinstance(act, nn.GELU) and act.approximate == "none"
