"""A stereo model and its processor, ready to reconstruct scenes."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .processes import own_device

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What `load_model` returns; `reconstruct` takes it in place of a name, as often as wanted.

    Attributes:
        network: The stereo model, on its device.
        processor: Brings photographs to the network's size.
        autocast: Precision of the computation where it is not that of the weights.
        borrowed: Whether somebody else holds the network too, who wants it back as it was.
    """

    network: Any
    processor: Any
    autocast: torch.dtype | None = None
    borrowed: bool = False


def load_model(
    model: str | os.PathLike[str] | nn.Module = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    image_size: int | None = None,
) -> LoadedModel:
    """Load a model once, to reconstruct several scenes with it.

    Args:
        model: A repository, folder or file to load, or a stereo model.
        device: Where to compute; a GPU where there is one by default, or where `model` is.
        dtype: Precision of the computation, such as "bfloat16"; the weights' own by default.
        image_size: Side in pixels that the network sees; the model's own by default.

    Returns:
        The model and its processor.

    Raises:
        ValueError: If the dtype is unknown, or the model predicts no pointmaps of two views.
    """
    wanted, autocast, source = _dtype(dtype), None, None
    borrowed = not isinstance(model, (str, os.PathLike))
    if borrowed:
        network: Any = model
        own = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)
        autocast = wanted if wanted != own else None
    else:
        from ..hub import AutoCroco3D
        from ..hub.sources import open_source

        source = open_source(model).name
        network = AutoCroco3D.from_pretrained(source, dtype=wanted or torch.float32)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if not (hasattr(network, "encode") and hasattr(network, "decode")):
        raise ValueError(
            f"{type(network).__name__} does not predict pointmaps of two views; give a DUSt3R or "
            "MASt3R model."
        )
    network = network if device is None else network.to(own_device(str(device)))
    return LoadedModel(network, _processor(network, source, image_size), autocast, borrowed)


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    value = getattr(torch, str(dtype), None)
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"dtype={dtype!r} is unknown; use float32, bfloat16 or float16.")
    return value


def _processor(network: Any, source: str | None, image_size: int | None) -> Any:
    """The processor saved with the weights, or else the one that the model's config asks for."""
    from ..modeling.dust3r import Dust3rImageProcessor

    changed: dict[str, Any] = {} if image_size is None else {"size": image_size}
    if source is not None and not Path(source).is_file():
        try:
            return Dust3rImageProcessor.from_pretrained(source, **changed)
        except OSError:
            logger.debug("%s holds no preprocessor_config.json; built from its config.", source)
    return Dust3rImageProcessor.from_model_config(network.config, **changed)
