"""Less memory for training: what is cheap to compute again is not kept for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


@contextmanager
def recomputing(*steps: tuple[nn.Module, Tensor], enabled: bool = True) -> Iterator[list[Tensor]]:
    """Gives results of cheap layers, which what reads them in the block does not keep.

    The product after a norm or an activation keeps its result for the backward pass, though the
    layer costs a thousandth of the product and its input is kept anyway. So the backward pass
    computes the result again where it is needed. Compiled models decide that for themselves.

    Args:
        *steps: layers that depend on nothing but one tensor and their weights, and that tensor.
        enabled: whether to do so; `False` keeps the results as usual.

    Yields:
        what each layer makes of its tensor.
    """
    results = [layer(x) for layer, x in steps]
    if not (enabled and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        yield results
        return
    # Nothing else can have these addresses while the results are held here.
    known = {(r.data_ptr(), r.numel()): step for r, step in zip(results, steps, strict=True)}

    def pack(kept: Tensor) -> Tensor | tuple[nn.Module, Tensor, torch.Size]:
        step = known.get((kept.data_ptr(), kept.numel()))
        return kept.detach() if step is None or not kept.is_contiguous() else (*step, kept.shape)

    def unpack(packed: Tensor | tuple[nn.Module, Tensor, torch.Size]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        layer, x, shape = packed
        with torch.no_grad():
            return layer(x).view(shape)

    with saved_tensors_hooks(pack, unpack):
        yield results
