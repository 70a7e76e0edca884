"""From raw channels to pointmaps and confidences."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..configs import Croco3DConfig, check_choice

POINT_MODES = ("exp", "linear", "square")
CONFIDENCE_MODES = ("exp", "sigmoid")

# The length of a raw vector whose point is at distance 1.
_RAW_LENGTH_OF_ONE = {"exp": math.log(2), "linear": 1.0, "square": 1.0}


class PointHeadConfig(Croco3DConfig):
    """Options of a head that predicts points and confidences.

    Attributes:
        depth_mode: how a raw vector becomes a point: its direction times `expm1(norm)` ("exp"),
            `norm` ("linear") or `norm**2` ("square").
        depth_bounds: least and greatest distance of a point from the origin.
        confidence_mode: `least + exp(x)` ("exp"), a sigmoid between the bounds ("sigmoid"), or
            `None` for a head without confidence.
        confidence_bounds: least and greatest confidence.
        level_widths: channels of [encoder tokens, each decoder level]; a whole model fills it in.
        patch_size: side in pixels of the encoder's patches; a whole model fills it in.
    """

    base_config_key = "head_config"

    depth_mode: str = "exp"
    depth_bounds: tuple[float | int, float | int] | list = (-math.inf, math.inf)
    confidence_mode: str | None = "exp"
    confidence_bounds: tuple[float | int, float | int] | list = (1.0, math.inf)
    level_widths: tuple[int, ...] | list | None = None
    patch_size: int | None = None

    def validate_architecture(self) -> None:
        """Checks the values; see `Croco3DConfig`."""
        super().validate_architecture()
        check_choice(self, "depth_mode", POINT_MODES)
        check_choice(self, "confidence_mode", (None, *CONFIDENCE_MODES))
        for name in ("depth_bounds", "confidence_bounds"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must rise, but are ({low}, {high}).")
        if self.confidence_mode is not None and not math.isfinite(self.confidence_bounds[0]):
            raise ValueError(
                f"The least confidence must be finite, not {self.confidence_bounds[0]}."
            )
        if self.confidence_mode == "sigmoid" and not math.isfinite(self.confidence_bounds[1]):
            raise ValueError(
                "confidence_mode='sigmoid' needs finite confidence_bounds, such as (0.0, 1.0)."
            )

    @property
    def num_channels(self) -> int:
        """Number of raw output channels: three of the point, one of the confidence if any."""
        return 3 if self.confidence_mode is None else 4


def points_and_confidence(raw: Tensor, config: Any) -> tuple[Tensor, Tensor | None]:
    """Maps raw channels `(B, 3 or 4, H, W)` to a pointmap and a confidence.

    Returns:
        `(B, H, W, 3)` and `(B, H, W)`, the latter `None` where the config has no confidence.
    """
    raw = raw.permute(0, 2, 3, 1)
    pointmap = to_points(raw[..., :3], config.depth_mode, config.depth_bounds)
    if config.confidence_mode is None:
        return pointmap, None
    return pointmap, to_confidence(raw[..., 3], config.confidence_mode, config.confidence_bounds)


def init_straight_ahead(last: nn.Linear | nn.Conv2d, config: Any) -> None:
    """Initialises a head's last layer to predict points near (0, 0, 1), in front of the camera.

    Training from random points, most of them behind the camera, spends its first hundred steps on
    forgetting them.

    Args:
        last: its outputs are the raw channels, each for all pixels of a patch where there are
            several.
        config: the head's options.
    """
    init.xavier_uniform_(last.weight, gain=0.05)
    assert last.bias is not None
    bias = torch.zeros_like(last.bias)
    bias.view(config.num_channels, -1)[2] = _RAW_LENGTH_OF_ONE[config.depth_mode]
    init.copy_(last.bias, bias)


def to_points(raw: Tensor, mode: str, bounds: tuple[float, float] | list) -> Tensor:
    """Maps raw vectors `(..., 3)` to points (DUSt3R, arXiv 2312.14132): direction times distance.

    Args:
        raw: `(..., 3)`.
        mode: one of `POINT_MODES`.
        bounds: least and greatest distance from the origin.
    """
    low, high = bounds
    norm = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
    distance = {"exp": torch.expm1, "linear": torch.clone, "square": torch.square}[mode](norm)
    if low > -math.inf or high < math.inf:
        distance = distance.clamp(low, high)
    elif mode == "linear":
        return raw
    return raw / norm.clamp(min=1e-8) * distance


def to_confidence(raw: Tensor, mode: str, bounds: tuple[float, float] | list) -> Tensor:
    """Maps raw values to confidences of the same shape.

    Args:
        raw: any shape.
        mode: one of `CONFIDENCE_MODES`.
        bounds: least and greatest confidence.
    """
    low, high = bounds
    if mode == "sigmoid":
        return low + (high - low) * raw.sigmoid()
    return (low + raw.exp()).clamp(max=high)
