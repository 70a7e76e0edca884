"""Configuration of CroCo."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .. import decoders as _decoders  # noqa: F401  (registers the components)
from .. import encoders as _encoders  # noqa: F401
from .. import heads as _heads  # noqa: F401
from ..configs import Croco3DConfig


@strict
class CrocoConfig(Croco3DConfig):
    """Configuration of `CrocoForPreTraining`; the defaults are CroCo v2 with a ViT-L encoder.

    Attributes:
        encoder_config: config of any registered encoder.
        decoder_config: config of the single decoder.
        head_config: config of the pixels head.
        mask_ratio: share of view 1's patches that are hidden.
        norm_pix_loss: whether targets are normalised by each patch's mean and variance.
        loss_on_hidden: whether only hidden patches count in the loss.
        image_size: side, or (height, width), of the training images.
        license: licence of the weights, carried along when they are saved again.
    """

    model_type = "croco3d_croco"
    sub_configs_defaults = {
        "encoder_config": SubConfigSpec(AutoConfig, model_type="croco3d_croco_encoder"),
        "decoder_config": SubConfigSpec(AutoConfig, model_type="croco3d_single_decoder"),
        "head_config": SubConfigSpec(AutoConfig, model_type="croco3d_pixels_head"),
    }

    encoder_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    head_config: dict | PreTrainedConfig | None = None
    mask_ratio: float | int = 0.9
    norm_pix_loss: bool = True
    loss_on_hidden: bool = True
    image_size: int | tuple[int, int] | list = 224
    license: str | None = None

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio} must be at least 0 and below 1.")
