"""Linear layers whose weights lie as oneDNN's kernels read them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def can_pack(dtype: torch.dtype) -> bool:
    """Tells whether this machine's CPU runs products of this dtype through oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class PackedLinear(nn.Module):
    """A linear layer for inference on CPUs, with an optional exact GELU in the same pass.

    The weight is held once, in the packed layout: the layer it was made from is emptied until
    `unpack` fills it again, bit for bit. State dictionaries hold the weight as it was.

    Args:
        linear: the layer to take over; on the CPU, in a dtype that `can_pack` accepts.
        gelu: whether to apply GELU to the result.
        rows: order in which to put the outputs; `None` for their own.
    """

    def __init__(self, linear: nn.Linear, gelu: bool = False, rows: Tensor | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        # In a tuple, so that it is no submodule: its parameters are not this layer's.
        self._source = (linear,)
        self.gelu = gelu
        self._attributes = ("gelu", [], "none") if gelu else ("none", [], "")
        self.bias, self._rows = linear.bias, rows
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach()
        if rows is not None:
            weight, bias = weight[rows], None if bias is None else bias[rows]
        self._ordered_bias = bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        linear.weight.data = weight.new_empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(..., in_features)` to `(..., out_features)`."""
        x, bias = x.to(self.dtype), self._ordered_bias
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, *self._attributes)

    def unpack(self) -> nn.Linear:
        """Fills the original layer again and returns it; this one must not be used any more."""
        (linear,) = self._source
        linear.weight.data = self._weight()
        return linear

    def _weight(self) -> Tensor:
        weight = self._packed.to_dense()
        return weight if self._rows is None else weight[self._rows.argsort()]

    def extra_repr(self) -> str:
        """Describes the layer."""
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.dtype}"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self._weight()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        refuse("loading weights into it")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLinear":
        refuse_change(fn, self.dtype)
        return self


def refuse_change(fn: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    """Raises the error of `refuse` if a function moves or casts CPU tensors of this dtype."""
    probe = torch.empty(0, dtype=dtype)
    moved = fn(probe)
    if moved.dtype != probe.dtype or moved.device != probe.device:
        refuse("moving or casting it")


def refuse(action: str) -> None:
    """Raises the error of a model that is packed and cannot be changed.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"The model is optimized for inference; call restore() before {action}.")
