"""From pixels to patch tokens."""

from timm.layers import LayerNorm2d
from torch import Tensor, nn


class LinearPatchEmbed(nn.Module):
    """One linear map per patch.

    Args:
        patch_size: side of a patch in pixels.
        in_channels: channels of the image.
        dim: channels of a token.
    """

    def __init__(self, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Maps `(B, 3, H, W)` to tokens `(B, N, C)` in raster order."""
        return self.proj(pixel_values).flatten(2).transpose(1, 2)


class ConvPatchEmbed(nn.Module):
    """Strided 3x3 convolutions down to the patch grid (arXiv 2106.14881): easier to train small.

    Args:
        patch_size: side of a patch in pixels, a power of two.
        in_channels: channels of the image.
        dim: channels of a token.
    """

    def __init__(self, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        stages = patch_size.bit_length() - 1
        layers: list[nn.Module] = []
        for stage in range(stages):
            width = max(dim >> (stages - 1 - stage), 16)
            layers += [nn.Conv2d(in_channels, width, 3, stride=2, padding=1), LayerNorm2d(width)]
            layers += [nn.GELU()]
            in_channels = width
        self.stages = nn.Sequential(*layers)
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Maps `(B, 3, H, W)` to tokens `(B, N, C)` in raster order."""
        return self.proj(self.stages(pixel_values)).flatten(2).transpose(1, 2)


PATCH_EMBEDS = {"linear": LinearPatchEmbed, "conv": ConvPatchEmbed}


def patchify(pixel_values: Tensor, patch_size: int) -> Tensor:
    """Cuts `(B, C, H, W)` into `(B, N, patch_size**2 * C)`, pixels as (row, column, channel)."""
    x = pixel_values.unflatten(-1, (-1, patch_size)).unflatten(-3, (-1, patch_size))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Puts `(B, N, patch_size**2 * C)` back to `(B, C, H, W)`: the inverse of `patchify`."""
    x = patches.unflatten(-1, (patch_size, patch_size, -1)).unflatten(1, grid)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
