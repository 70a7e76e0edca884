"""The dense prediction transformer head (DPT, arXiv 2103.13413) as DUSt3R uses it."""

from collections.abc import Callable

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..components import Head, settle_fact
from ..outputs import HeadOutput
from ..registry import HEADS
from .postprocess import PointHeadConfig, init_straight_ahead, points_and_confidence

# Without gradients, CPUs work off enlarged maps in strips of about this many values, which memory
# just used can hold: touching fresh memory for whole maps costs as much as a tenth of the
# convolutions (measured).
STRIP_VALUES = 2**22


@strict
class DptHeadConfig(PointHeadConfig):
    """Configuration of `DptHead`; see `PointHeadConfig` for the shared options.

    Attributes:
        levels: which four of [encoder tokens, decoder levels 1..D] are read; `None` for 0, D/2,
            3D/4 and D.
        level_channels: channels of the four levels after reassembly, finest first.
        fusion_channels: channels of the fusion.
        keep_unused_unit: whether to carry the coarsest fusion's first unit, which published
            checkpoints hold though nothing reads it, so that they convert back unchanged.
    """

    model_type = "croco3d_dpt_head"

    levels: tuple[int, int, int, int] | list | None = None
    level_channels: tuple[int, int, int, int] | list = (96, 192, 384, 768)
    fusion_channels: int = 256
    keep_unused_unit: bool = False


@HEADS.register("dpt")
class DptHead(Head):
    """Reassembles four levels at strides 4, 8, 16, 32, fuses them, and convolves to pixels.

    The strides are those of 16-pixel patches; with other patches they scale along.

    Args:
        config: the head's config.
        level_widths: channels of [encoder tokens, each decoder level].
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = DptHeadConfig
    _keep_in_fp32_modules_strict = [
        "reassemble",
        "project",
        "fuse",
        "unused_unit",
        "predict_fine",
        "predict_full",
        "predict_raw",
    ]

    def __init__(
        self,
        config: DptHeadConfig,
        level_widths: tuple[int, ...] | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config)
        widths = settle_fact(config, "level_widths", level_widths, "decoder")
        self.patch_size = settle_fact(config, "patch_size", patch_size, "encoder")
        self.level_indices = choose_levels(config, len(widths) - 1)
        chosen = [widths[index] for index in self.level_indices]
        channels, fused = tuple(config.level_channels), config.fusion_channels
        self.reassemble = nn.ModuleList(
            reassembly(width, channel, scale)
            for width, channel, scale in zip(chosen, channels, (4, 2, 1, -2), strict=True)
        )
        self.project = nn.ModuleList(
            nn.Conv2d(channel, fused, 3, padding=1, bias=False) for channel in channels
        )
        self.fuse = nn.ModuleList(Fusion(fused, skip=index < 3) for index in range(4))
        if config.keep_unused_unit:
            self.unused_unit = ResidualUnit(fused).requires_grad_(False)
        self.predict_fine = nn.Conv2d(fused, fused // 2, 3, padding=1)
        self.predict_full = nn.Conv2d(fused // 2, fused // 2, 3, padding=1)
        self.predict_raw = nn.Conv2d(fused // 2, config.num_channels, 1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.predict_raw:
            init_straight_ahead(self.predict_raw, self.config)

    def predict(self, levels: list[Tensor], grid: tuple[int, int]) -> HeadOutput:
        """Predicts pixels; see `Head.predict`."""
        maps = []
        for tokens, reassemble, project in zip(levels, self.reassemble, self.project, strict=True):
            maps.append(project(reassemble(tokens.transpose(1, 2).unflatten(2, grid))))
        x = self.fuse[3](maps[3])
        # A coarsest level made from an odd grid comes back one row or column too large.
        x = x[..., : maps[2].shape[-2], : maps[2].shape[-1]]
        for index in (2, 1):
            x = self.fuse[index](x, maps[index])
        finest = self.fuse[0]
        assert isinstance(finest, Fusion)
        x = finest.refine(x, maps[0])
        doubled = (2 * x.shape[-2], 2 * x.shape[-1])
        x = enlarge_and_convolve(x, doubled, self.predict_fine)
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        raw = enlarge_and_convolve(x, size, self._predict_raw)
        pointmap, confidence = points_and_confidence(raw, self.config)
        return HeadOutput(pointmap=pointmap, confidence=confidence)

    def _predict_raw(self, x: Tensor) -> Tensor:
        return self.predict_raw(F.relu(self.predict_full(x), inplace=True))


def choose_levels(config: DptHeadConfig, depth: int) -> tuple[int, ...]:
    """Returns which levels of a decoder of this depth the head reads.

    Raises:
        ValueError: if the decoder is too shallow or a level does not exist.
    """
    default = (0, depth // 2, depth * 3 // 4, depth)
    levels = default if config.levels is None else tuple(config.levels)
    if config.levels is None and len(set(levels)) < 4:
        raise ValueError(
            f"A DPT head reads 4 different levels, but a decoder of {depth} blocks gives "
            f"{default}: use at least 3 blocks (num_hidden_layers), or a linear head."
        )
    if len(levels) != 4 or not all(0 <= level <= depth for level in levels):
        raise ValueError(
            f"levels={levels} must be four numbers from 0 (the encoder) to {depth} (the last of "
            "the decoder's blocks)."
        )
    return levels


def reassembly(in_channels: int, out_channels: int, scale: int) -> nn.Sequential:
    """Returns the layers that bring a token map to its channels and size.

    Args:
        in_channels: channels of the tokens.
        out_channels: channels of the level.
        scale: factor of enlargement; -2 halves.
    """
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 1)]
    if scale > 1:
        layers.append(nn.ConvTranspose2d(out_channels, out_channels, scale, stride=scale))
    elif scale == -2:
        layers.append(nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1))
    return nn.Sequential(*layers)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to the input.

    Args:
        channels: channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to the same shape."""
        # In place where no gradient needs the value: maps at full size are large.
        return self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True)).add_(x)


class Fusion(nn.Module):
    """Adds a finer level to a coarser one, refines and doubles the size.

    Args:
        channels: channels in and out.
        skip: whether there is a finer level to add.
    """

    def __init__(self, channels: int, skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels) if skip else None
        self.unit = ResidualUnit(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, finer: Tensor | None = None) -> Tensor:
        """Maps `(B, C, H, W)`, and a finer level of the same shape, to `(B, C, 2H, 2W)`."""
        x = self.refine(x, finer)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    def refine(self, x: Tensor, finer: Tensor | None = None) -> Tensor:
        """Does what `forward` does but the enlargement."""
        if self.skip_unit is not None and finer is not None:
            x = x + self.skip_unit(finer)
        # The 1x1 convolution commutes with the enlargement, and costs a quarter before it.
        return self.out(self.unit(x))


def enlarge_and_convolve(
    x: Tensor, size: tuple[int, int], convolve: Callable[[Tensor], Tensor]
) -> Tensor:
    """Enlarges a map bilinearly with aligned corners, then convolves it with a reach of one row.

    Args:
        x: `(B, C, h, w)`.
        size: (H, W), at least (h, w).
        convolve: maps `(B, C, H, W)` to `(B, O, H, W)`, padding with zeros.

    Returns:
        `(B, O, H, W)`.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    strips = x.device.type in ("cpu", "meta") and not torch.is_grad_enabled() and not traced
    height, width = size
    rows = max(STRIP_VALUES // (x.shape[0] * x.shape[1] * width), 1) if strips else height
    if height <= rows:
        return convolve(F.interpolate(x, size, mode="bilinear", align_corners=True))
    result = None
    for first in range(0, height, rows):
        last = min(first + rows, height)
        above, below = max(first - 1, 0), min(last + 1, height)
        strip = convolve(_enlarged_rows(x, size, above, below))
        if result is None:
            result = strip.new_empty(x.shape[0], strip.shape[1], height, width)
        result[:, :, first:last] = strip[:, :, first - above : last - above]
    assert result is not None
    return result


def _enlarged_rows(x: Tensor, size: tuple[int, int], first: int, last: int) -> Tensor:
    """Returns rows [first, last) of `(B, C, h, w)` enlarged to `size` with aligned corners."""
    height = x.shape[-2]
    source = torch.arange(first, last, dtype=x.dtype, device=x.device)
    source = source * ((height - 1) / max(size[0] - 1, 1))
    upper = source.long().clamp(max=height - 1)
    lower = (upper + 1).clamp(max=height - 1)
    weight = (source - upper)[:, None]
    rows = torch.lerp(x[:, :, upper], x[:, :, lower], weight)
    return F.interpolate(rows, (last - first, size[1]), mode="bilinear", align_corners=True)
