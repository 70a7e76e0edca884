"""MASt3R's head: points, and a descriptor for each pixel."""

import torch
from huggingface_hub.dataclasses import strict
from timm.layers import Mlp
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ..components import Head, settle_fact
from ..configs import Croco3DConfig, check_choice
from ..outputs import HeadOutput
from ..registry import HEADS
from .dpt import DptHead as _DptHead  # noqa: F401  (registers the default points head)
from .postprocess import CONFIDENCE_MODES, to_confidence


@strict
class MatchingHeadConfig(Croco3DConfig):
    """Configuration of `MatchingHead`.

    Attributes:
        points_config: config of the head that predicts points and their confidence.
        descriptor_size: channels of a descriptor.
        mlp_ratio: width of the descriptors' MLP over its input.
        descriptor_confidence_mode: "exp" or "sigmoid"; see `PointHeadConfig`.
        descriptor_confidence_bounds: least and greatest confidence of a descriptor.
        level_widths: channels of [encoder tokens, each decoder level]; a whole model fills it in.
        patch_size: side in pixels of the encoder's patches; a whole model fills it in.
    """

    model_type = "croco3d_matching_head"
    base_config_key = "head_config"
    sub_configs_defaults = {
        "points_config": SubConfigSpec(AutoConfig, model_type="croco3d_dpt_head"),
    }

    points_config: dict | PreTrainedConfig | None = None
    descriptor_size: int = 24
    mlp_ratio: float | int = 4.0
    descriptor_confidence_mode: str = "exp"
    descriptor_confidence_bounds: tuple[float | int, float | int] | list = (0.0, float("inf"))
    level_widths: tuple[int, ...] | list | None = None
    patch_size: int | None = None

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        check_choice(self, "descriptor_confidence_mode", CONFIDENCE_MODES)


@HEADS.register("matching")
class MatchingHead(Head):
    """A points head and, beside it, an MLP on encoder and decoder tokens for local descriptors.

    MASt3R (arXiv 2406.09756), section 3.2.

    Args:
        config: the head's config.
        level_widths: channels of [encoder tokens, each decoder level].
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = MatchingHeadConfig
    extra_outputs = ("descriptors", "descriptor_confidence")
    _keep_in_fp32_modules_strict = ["points", "descriptor_mlp"]

    def __init__(
        self,
        config: MatchingHeadConfig,
        level_widths: tuple[int, ...] | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config)
        widths = tuple(settle_fact(config, "level_widths", level_widths, "decoder"))
        self.patch_size = settle_fact(config, "patch_size", patch_size, "encoder")
        points = HEADS.build(config.points_config, level_widths=widths, patch_size=self.patch_size)
        assert isinstance(points, Head)
        self.points = points
        self.level_indices = (*points.level_indices, 0, len(widths) - 1)
        channels = (config.descriptor_size + 1) * self.patch_size**2
        joint = widths[0] + widths[-1]
        self.descriptor_mlp = Mlp(joint, int(joint * config.mlp_ratio), channels)
        self.post_init()

    def predict(self, levels: list[Tensor], grid: tuple[int, int]) -> HeadOutput:
        """Predicts pixels; see `Head.predict`."""
        output = self.points.predict(levels[:-2], grid)
        raw = self.descriptor_mlp(torch.cat(levels[-2:], dim=-1)).transpose(1, 2).unflatten(2, grid)
        pixels = F.pixel_shuffle(raw, self.patch_size).permute(0, 2, 3, 1)
        output.descriptors = F.normalize(pixels[..., :-1], dim=-1)
        output.descriptor_confidence = to_confidence(
            pixels[..., -1],
            self.config.descriptor_confidence_mode,
            self.config.descriptor_confidence_bounds,
        )
        return output
