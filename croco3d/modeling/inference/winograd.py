"""3x3 convolutions with a quarter of the multiplications (Winograd, arXiv 1509.09308)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .packed import refuse, refuse_change

# F(4x4, 3x3): tiles of 6x6 pixels give 4x4 outputs, at points 0, 1, -1, 2, -2 and infinity.
_INPUT = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
]
_WEIGHT = [
    [1 / 4, 0.0, 0.0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0.0, 0.0, 1.0],
]
_OUTPUT = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
]
_TILE = 4
# Rows of tiles are worked off in groups of about this many tiles, to stay within the caches.
_TILES_AT_ONCE = 128


def suits_winograd(conv: nn.Conv2d) -> bool:
    """Tells whether a convolution gains by `WinogradConv2d`."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= 96
        and conv.weight.dtype == torch.float32
    )


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of stride 1 for inference on CPUs, equal to about 2e-6.

    Args:
        conv: the layer to take over, which stays whole.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        transform = torch.tensor(_WEIGHT, dtype=torch.float64)
        kernel = conv.weight.detach().double()
        kernel = torch.einsum("ia,jb,ocab->ijco", transform, transform, kernel)
        self._kernel = kernel.flatten(0, 1).float().contiguous()  # (36, C, O)
        self._input = torch.kron(torch.tensor(_INPUT), torch.tensor(_INPUT))
        self._output = torch.kron(torch.tensor(_OUTPUT), torch.tensor(_OUTPUT))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to `(B, O, H, W)`, channels last in memory."""
        batch, _, height, width = x.shape
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        result = x.new_empty(batch, height, width, self._kernel.shape[-1])
        right = columns * _TILE - width
        pixels = x.permute(0, 2, 3, 1)
        step = max(1, _TILES_AT_ONCE // columns)
        for image, target in zip(pixels, result, strict=True):
            for row in range(0, rows, step):
                first, last = row * _TILE, min((row + step) * _TILE, rows * _TILE)
                strip = image[max(first - 1, 0) : last + 1]
                above = int(row == 0)
                missing = last - first + 2 - above - strip.shape[0]
                strip = F.pad(strip, (0, 0, 1, 1 + right, above, missing))
                outputs = self._convolve(strip.contiguous(), columns)
                target[first:last] = outputs[: min(last, height) - first, :width]
        return result.permute(0, 3, 1, 2)

    def _convolve(self, strip: Tensor, columns: int) -> Tensor:
        """Convolves padded rows `(4 n + 2, 4 columns + 2, C)` to `(4 n, 4 columns, O)`."""
        rows, channels = (strip.shape[0] - 2) // _TILE, strip.shape[-1]
        down, across, _ = strip.stride()
        tiles = strip.as_strided(
            (6, 6, rows, columns, channels), (down, across, _TILE * down, _TILE * across, 1)
        )
        spectrum = self._input @ tiles.reshape(36, -1)
        product = spectrum.view(36, rows * columns, channels) @ self._kernel
        outputs = (self._output @ product.view(36, -1)).view(_TILE, _TILE, rows, columns, -1)
        outputs = outputs.permute(2, 0, 3, 1, 4).flatten(2, 3).flatten(0, 1)
        return outputs if self.bias is None else outputs.add_(self.bias)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        refuse("loading weights into it")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WinogradConv2d":
        refuse_change(fn, torch.float32)
        return self
