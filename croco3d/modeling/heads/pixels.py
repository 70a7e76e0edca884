"""CroCo's head: the pixels of each patch."""

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..components import Croco3DModel, settle_fact
from ..configs import Croco3DConfig
from ..registry import HEADS


@strict
class PixelsHeadConfig(Croco3DConfig):
    """Configuration of `PixelsHead`.

    Attributes:
        in_channels: channels of the decoder's tokens; a whole model fills it in.
        patch_size: side in pixels of the encoder's patches; a whole model fills it in.
    """

    model_type = "croco3d_pixels_head"
    base_config_key = "head_config"

    in_channels: int | None = None
    patch_size: int | None = None


@HEADS.register("pixels")
class PixelsHead(Croco3DModel):
    """Maps each token to the RGB values of its patch.

    Args:
        config: the head's config.
        in_channels: channels of the decoder's tokens.
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = PixelsHeadConfig

    def __init__(
        self,
        config: PixelsHeadConfig,
        in_channels: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config)
        channels: int = settle_fact(config, "in_channels", in_channels, "decoder")
        patch: int = settle_fact(config, "patch_size", patch_size, "encoder")
        self.proj = nn.Linear(channels, 3 * patch**2)
        self.post_init()

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(B, N, C)` to `(B, N, patch_size**2 * 3)`, in (row, column, RGB) order."""
        return self.proj(tokens).float()
