"""What all our decoders share: options, projection, positions and final norm."""

from torch import Tensor, nn

from ..components import Decoder, settle_fact
from ..configs import Croco3DConfig, check_attention
from ..layers import AbsolutePositions, CrossBlock, grid_for, rotary_tables
from ..layers.attention import Tables


class DecoderConfig(Croco3DConfig):
    """Options of a decoder; the defaults are the published ones of DUSt3R.

    Attributes:
        hidden_size: channels of a decoded token.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of a block.
        mlp_ratio: width of the MLPs over `hidden_size`.
        rotary_base: base of the rotary positions' wavelengths; `None` for none.
        absolute_positions: "sincos" (CroCo v1), "learned" or `None`.
        image_size: side, or (height, width), that absolute positions are made for.
        layer_norm_eps: epsilon of the norms.
        in_channels: channels of the encoder's tokens; a whole model fills it in.
        patch_size: side in pixels of the encoder's patches; a whole model fills it in.
    """

    base_config_key = "decoder_config"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4.0
    rotary_base: float | int | None = 100.0
    absolute_positions: str | None = None
    image_size: int | tuple[int, int] | list = 224
    layer_norm_eps: float = 1e-6
    in_channels: int | None = None
    patch_size: int | None = None

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        check_attention(self)


class CrossDecoder(Decoder):
    """Embeds encoder tokens, places them, and normalises the result; subclasses own the blocks.

    Args:
        config: the decoder's config.
        in_channels: channels of the encoder's tokens.
        patch_size: side in pixels of the encoder's patches.
    """

    base_model_prefix = "decoder"
    _keys_to_ignore_on_load_unexpected = [r"^encoder\.", r"^head", r"^predictor\."]
    _no_split_modules = ["CrossBlock"]

    def __init__(
        self, config: DecoderConfig, in_channels: int | None = None, patch_size: int | None = None
    ) -> None:
        super().__init__(config)
        channels: int = settle_fact(config, "in_channels", in_channels, "encoder")
        patch: int = settle_fact(config, "patch_size", patch_size, "encoder")
        self.hidden_size, self.depth = config.hidden_size, config.num_hidden_layers
        self.embed = nn.Linear(channels, config.hidden_size)
        self.absolute = None
        if config.absolute_positions is not None:
            grid = grid_for(config.image_size, patch)
            self.absolute = AbsolutePositions(config.absolute_positions, config.hidden_size, grid)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def make_stack(self) -> nn.ModuleList:
        """Returns one stack of blocks of the config's depth."""
        config = self.config
        return nn.ModuleList(
            CrossBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.mlp_ratio,
                config.layer_norm_eps,
                config,
            )
            for _ in range(config.num_hidden_layers)
        )

    def place(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds absolute positions, where the config has them, to all tokens `(B, N, C)`."""
        return x if self.absolute is None else x + self.absolute(positions).to(x.dtype)

    def rotary(self, positions: Tensor) -> Tables | None:
        """Returns the rotary tables of tokens at `(B, N, 2)`, `None` where the config has none."""
        config = self.config
        if config.rotary_base is None:
            return None
        head_dim = config.hidden_size // config.num_attention_heads
        return rotary_tables(positions, head_dim, config.rotary_base)
