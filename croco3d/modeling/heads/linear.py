"""A head of one linear map per patch."""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..components import Head, settle_fact
from ..outputs import HeadOutput
from ..registry import HEADS
from .postprocess import PointHeadConfig, init_straight_ahead, points_and_confidence


@strict
class LinearHeadConfig(PointHeadConfig):
    """Configuration of `LinearHead`; see `PointHeadConfig` for the options."""

    model_type = "croco3d_linear_head"


@HEADS.register("linear")
class LinearHead(Head):
    """Maps each token of the last level to its patch's pixels by pixel shuffle.

    Args:
        config: the head's config.
        level_widths: channels of [encoder tokens, each decoder level].
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = LinearHeadConfig
    _keep_in_fp32_modules_strict = ["proj"]

    def __init__(
        self,
        config: LinearHeadConfig,
        level_widths: tuple[int, ...] | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config)
        widths = settle_fact(config, "level_widths", level_widths, "decoder")
        self.patch_size = settle_fact(config, "patch_size", patch_size, "encoder")
        self.level_indices = (len(widths) - 1,)
        self.proj = nn.Linear(widths[-1], config.num_channels * self.patch_size**2)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.proj:
            init_straight_ahead(self.proj, self.config)

    def predict(self, levels: list[Tensor], grid: tuple[int, int]) -> HeadOutput:
        """Predicts pixels; see `Head.predict`."""
        raw = self.proj(levels[0]).transpose(1, 2).unflatten(2, grid)
        pixels = F.pixel_shuffle(raw, self.patch_size)
        pointmap, confidence = points_and_confidence(pixels, self.config)
        return HeadOutput(pointmap=pointmap, confidence=confidence)
