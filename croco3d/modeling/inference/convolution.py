"""3x3 convolutions by NNPACK: Winograd's algorithm, a fifth of the multiplications."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .packed import refuse, refuse_change

# On fewer pixels, transforming the kernel costs more than the multiplications saved (measured).
_FEWEST_PIXELS = 512


def suits_nnpack(conv: nn.Conv2d) -> bool:
    """Tells whether a convolution gains by `NnpackConv2d` on this machine."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= 96
        and conv.weight.dtype == torch.float32
        # Asking also starts the library, without which its calls fail.
        and torch.backends.nnpack.is_available()
    )


class NnpackConv2d(nn.Module):
    """A 3x3 convolution of stride 1 for inference on CPUs, equal to about 5e-6 (arXiv 1509.09308).

    Args:
        conv: the layer to take over, which stays whole.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to `(B, O, H, W)`."""
        if x.shape[-2] * x.shape[-1] < _FEWEST_PIXELS:
            return F.conv2d(x, self.weight, self.bias, padding=1)
        # One image at a time: for batches, NNPACK takes a slower way (measured).
        images = [
            torch._nnpack_spatial_convolution(image, self.weight, self.bias, padding=1)
            for image in x.contiguous().split(1)
        ]
        return images[0] if len(images) == 1 else torch.cat(images)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        refuse("loading weights into it")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NnpackConv2d":
        refuse_change(fn, torch.float32)
        return self
