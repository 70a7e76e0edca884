"""Any timm backbone as an encoder."""

from difflib import get_close_matches
from typing import Any

import timm
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..components import Encoder, keep_visible
from ..configs import Croco3DConfig
from ..registry import ENCODERS
from .croco import hide_pixels


@strict
class TimmEncoderConfig(Croco3DConfig):
    """Configuration of `TimmEncoder`.

    Attributes:
        model_name: a name of `timm.list_models()`, with or without a pretrained tag.
        patch_size: patch size of a transformer; `None` for the model's own. Convolutional models
            have theirs by construction: their total stride.
        image_size: side, or (height, width), that position embeddings are made for; `None` for
            the model's own. Other sizes work, with positions resampled.
        model_options: further keyword arguments of `timm.create_model`.
        image_mean: mean of the RGB values the weights were trained with, for the image processor;
            0.5 where it is `None`.
        image_std: their standard deviation; 0.5 where it is `None`.
    """

    model_type = "croco3d_timm_encoder"
    base_config_key = "encoder_config"

    model_name: str = "vit_base_patch16_224"
    patch_size: int | None = None
    image_size: int | tuple[int, int] | list | None = None
    model_options: dict | None = None
    image_mean: tuple[float, float, float] | list | None = None
    image_std: tuple[float, float, float] | list | None = None

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        if not timm.is_model(self.model_name):
            names = timm.list_models()
            near = get_close_matches(self.model_name.split(".")[0], names, n=3, cutoff=0.5)
            raise ValueError(
                f"timm has no model {self.model_name!r}. Near: {', '.join(near) or 'none'}; "
                "timm.list_models() lists all."
            )


@ENCODERS.register("timm")
class TimmEncoder(Encoder):
    """A timm backbone: DINOv2, DINOv3, SigLIP, plain ViTs, also convolutional ones.

    Class and register tokens are dropped, and the last feature map is cut into tokens. Hidden
    patches of a masked image are blanked rather than left out, which any architecture allows.
    """

    config_class = TimmEncoderConfig

    def __init__(self, config: TimmEncoderConfig) -> None:
        super().__init__(config)
        self.model = create_backbone(config, pretrained=False)
        features: Any = self.model.feature_info
        info = features[-1]
        self.hidden_size, self.patch_size = int(info["num_chs"]), int(info["reduction"])
        self.post_init()

    @classmethod
    def from_timm(
        cls,
        model_name: str,
        patch_size: int | None = None,
        image_size: int | tuple[int, int] | None = None,
    ) -> "TimmEncoder":
        """Builds an encoder with timm's pretrained weights (downloaded once by timm).

        Args:
            model_name: a name of `timm.list_models(pretrained=True)`.
            patch_size: patch size to resample the patch embedding to, `None` for the model's own.
            image_size: size to resample the position embedding to, `None` for the model's own.
        """
        config = TimmEncoderConfig(
            model_name=model_name, patch_size=patch_size, image_size=image_size
        )
        encoder = cls(config)
        encoder.model = create_backbone(config, pretrained=True)
        trained: Any = encoder.model.pretrained_cfg
        config.image_mean, config.image_std = tuple(trained["mean"]), tuple(trained["std"])
        return encoder

    def encode_upright(
        self, pixel_values: Tensor, mask: Tensor | None, output_hidden_states: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encodes upright images; see `Encoder.encode_upright`."""
        if mask is not None:
            pixel_values = hide_pixels(pixel_values, mask, self.patch_size)
        dtype = next(self.model.parameters()).dtype
        maps = self.model.forward_intermediates(  # pyright: ignore[reportCallIssue]
            pixel_values.to(dtype),
            indices=None if output_hidden_states else 1,
            norm=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        states = tuple(level.flatten(2).transpose(1, 2) for level in maps)
        tokens = states[-1]
        if mask is not None:
            tokens = keep_visible(tokens, mask)
        return tokens, states if output_hidden_states else None


def create_backbone(config: TimmEncoderConfig, pretrained: bool) -> nn.Module:
    """Creates the timm model of a config without classifier, for images of any size."""
    options = dict(config.model_options or {})
    if config.patch_size is not None:
        options["patch_size"] = config.patch_size
    if config.image_size is not None:
        size = config.image_size
        options["img_size"] = size if isinstance(size, int) else tuple(size)
    flexible = {"dynamic_img_size": True, **options}
    try:
        model = timm.create_model(config.model_name, pretrained, num_classes=0, **flexible)
    except TypeError:  # models without position embeddings need no such switch
        model = timm.create_model(config.model_name, pretrained, num_classes=0, **options)
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(
            f"{config.model_name!r} cannot return feature maps (no forward_intermediates); "
            "choose another timm model."
        )
    return model
