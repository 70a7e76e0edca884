"""Configuration of DUSt3R."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .. import decoders as _decoders  # noqa: F401  (registers the components)
from .. import encoders as _encoders  # noqa: F401
from .. import heads as _heads  # noqa: F401
from ..configs import Croco3DConfig


@strict
class Dust3rConfig(Croco3DConfig):
    """Configuration of `Dust3rForStereo`; the defaults are the published 512 DPT model.

    Attributes:
        encoder_config: config of any registered encoder.
        decoder_config: config of a decoder of two views ("pair", "shared_pair").
        head_config: config of a head of points ("linear", "dpt"); each view gets its own weights.
        image_size: side, or (height, width), of the training images.
        landscape_only: whether training batches were stored in landscape. Recorded for the
            original layout only: here each image's orientation follows its `true_shape`.
        license: licence of the weights, carried along when they are saved again.
    """

    model_type = "croco3d_dust3r"
    sub_configs_defaults = {
        "encoder_config": SubConfigSpec(AutoConfig, model_type="croco3d_croco_encoder"),
        "decoder_config": SubConfigSpec(AutoConfig, model_type="croco3d_pair_decoder"),
        "head_config": SubConfigSpec(AutoConfig, model_type="croco3d_dpt_head"),
    }

    encoder_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    head_config: dict | PreTrainedConfig | None = None
    image_size: int | tuple[int, int] | list = 512
    landscape_only: bool = False
    license: str | None = None
