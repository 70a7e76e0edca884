"""The Vision Transformer encoder of CroCo and DUSt3R."""

import warnings

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..components import Encoder, keep_visible
from ..configs import Croco3DConfig, check_attention, check_choice
from ..layers import PATCH_EMBEDS, AbsolutePositions, EncoderBlock, grid_for, rotary_tables
from ..registry import ENCODERS


@strict
class CrocoEncoderConfig(Croco3DConfig):
    """Configuration of `CrocoEncoder`; the defaults are the published ViT-L of CroCo v2 and DUSt3R.

    Attributes:
        hidden_size: channels of a token.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of a block.
        mlp_ratio: width of the MLPs over `hidden_size`.
        patch_size: side of a patch in pixels.
        image_size: side, or (height, width), that absolute positions are made for.
        stem: "linear" (one map per patch) or "conv" (strided convolutions).
        rotary_base: base of the rotary positions' wavelengths; `None` for none.
        absolute_positions: "sincos" (CroCo v1), "learned" or `None`.
        layer_norm_eps: epsilon of the norms.
        drop_path_rate: share of skipped branches in the last block, rising linearly from 0.
    """

    model_type = "croco3d_croco_encoder"
    base_config_key = "encoder_config"

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: float | int = 4.0
    patch_size: int = 16
    image_size: int | tuple[int, int] | list = 224
    stem: str = "linear"
    rotary_base: float | int | None = 100.0
    absolute_positions: str | None = None
    layer_norm_eps: float = 1e-6
    drop_path_rate: float | int = 0.0

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        check_choice(self, "stem", tuple(PATCH_EMBEDS))
        check_attention(self)
        if self.stem == "conv" and self.patch_size.bit_count() != 1:
            raise ValueError(
                f"The conv stem needs a patch_size 2, 4, 8, ..., not {self.patch_size}."
            )


@ENCODERS.register("croco")
class CrocoEncoder(Encoder):
    """ViT without class token, with rotary, sine-cosine or learned positions.

    CroCo (arXiv 2210.10716, 2211.10408); DUSt3R (arXiv 2312.14132) uses it unmasked.
    """

    config_class = CrocoEncoderConfig
    _no_split_modules = ["EncoderBlock"]

    def __init__(self, config: CrocoEncoderConfig) -> None:
        super().__init__(config)
        self.hidden_size, self.patch_size = config.hidden_size, config.patch_size
        self.patch_embed = PATCH_EMBEDS[config.stem](config.patch_size, 3, config.hidden_size)
        self.grid = grid_for(config.image_size, config.patch_size)
        self.absolute = None
        if config.absolute_positions is not None:
            self.absolute = AbsolutePositions(
                config.absolute_positions, config.hidden_size, self.grid
            )
        depth = config.num_hidden_layers
        self.blocks = nn.ModuleList(
            EncoderBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.mlp_ratio,
                config.layer_norm_eps,
                config.drop_path_rate * index / max(depth - 1, 1),
                config,
            )
            for index in range(depth)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def encode_upright(
        self, pixel_values: Tensor, mask: Tensor | None, output_hidden_states: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encodes upright images; see `Encoder.encode_upright`."""
        positions = self.positions(pixel_values)
        if mask is not None and self.config.stem == "conv":
            pixel_values = hide_pixels(pixel_values, mask, self.patch_size)
        weight = self.norm.weight
        x = self.patch_embed(pixel_values.to(weight.dtype))
        if self.absolute is not None:
            self._warn_resampled(pixel_values)
            x = x + self.absolute(positions).to(x.dtype)
        if mask is not None:
            x, positions = keep_visible(x, mask), keep_visible(positions, mask)
        rotary = None
        if self.config.rotary_base is not None:
            head_dim = self.hidden_size // self.config.num_attention_heads
            rotary = rotary_tables(positions, head_dim, self.config.rotary_base)
        states = [x]
        for block in self.blocks:
            x, _ = block(x, rotary)
            if output_hidden_states:
                states.append(x)
        return self.norm(x), tuple(states) if output_hidden_states else None

    def _warn_resampled(self, pixel_values: Tensor) -> None:
        height, width = pixel_values.shape[-2:]
        grid = (height // self.patch_size, width // self.patch_size)
        if grid != self.grid:
            made = "x".join(str(side * self.patch_size) for side in self.grid)
            warnings.warn(
                f"This encoder has absolute positions made for {made} pixels; they are resampled "
                f"to {height}x{width}, which it was not trained on.",
                stacklevel=4,
            )


def hide_pixels(pixel_values: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Sets the pixels of hidden patches to zero, so that nothing near them can see them.

    Args:
        pixel_values: `(B, 3, H, W)`.
        mask: `(B, N)` bool, true = hidden.
        patch_size: side of a patch in pixels.
    """
    rows = pixel_values.shape[-2] // patch_size
    hidden = mask.unflatten(1, (rows, -1))
    hidden = hidden.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)
    return pixel_values.masked_fill(hidden[:, None], 0.0)
