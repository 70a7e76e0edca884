"""A reader of toy rooms and tiny runs on them, shared by the tests of training."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from croco3d.data import READERS, Frame, PairSource
from croco3d.losses import Loss, LossResult
from croco3d.training import LossTerm

SIZE = (32, 32)


class BrokenFor(Loss):
    """NaN, with a NaN gradient or not, for the pair whose first camera stands at x = 0.4."""

    def __init__(self, gradient_only):
        self.gradient_only = gradient_only

    def __call__(self, outputs, target):
        guilty = (target.cam2world1[:, 0, 3] - 0.4).abs() < 1e-3
        if self.gradient_only:
            zero = (outputs.pointmap1 * 0).sum()
            # The root of zero has an infinite slope.
            value = outputs.pointmap1.sum() * 1e-3 + (zero.sqrt() if guilty.any() else zero)
        else:
            value = outputs.pointmap1.mean() + torch.where(guilty, torch.nan, 0.0).sum()
        return LossResult(value)


@dataclass(kw_only=True)
class BrokenTerm(LossTerm, name="broken"):
    gradient_only: bool = False

    def build(self):
        return BrokenFor(self.gradient_only)


def toy_source(name: str = "toy", frames: int = 8, broken: int | None = None) -> PairSource:
    """Frames of a wavy wall from cameras beside one another; every frame with its next."""
    intrinsics = np.array([[30.0, 0, 15.5], [0, 30.0, 15.5], [0, 0, 1]])
    made = []
    for number in range(frames):
        pose = np.eye(4)
        pose[0, 3] = 0.2 * number
        scale = 1.0 if number != broken else float("inf")
        made.append(
            Frame(
                image=partial(_image, number),
                depth=partial(_depth, number, scale),
                intrinsics=intrinsics,
                cam2world=pose,
                name=f"frame{number}",
            )
        )
    pairs = np.array([(i, i + 1) for i in range(frames - 1)])
    return PairSource(name, made, pairs)


def register() -> None:
    """Make the reader known as `toy`."""
    if "toy" not in READERS:
        READERS.register("toy")(toy_source)


def tiny_run(output: Path | str, **changes: Any) -> dict[str, Any]:
    """A configuration of a few steps of a model of a few thousand weights."""
    config = {
        "output": str(output),
        "steps": 6,
        "task": {"name": "stereo"},
        "model": {"name": "dust3r", "config": tiny_model()},
        "data": {
            "train": [{"reader": "toy"}],
            "resolution": list(SIZE),
            "batch_size": 2,
            "workers": 0,
        },
        "optimizer": {"learning_rate": 1e-3},
        "runtime": {"cpu": True, "threads": 1},
        "saving": {"every": 2},
        "monitoring": {"log_every": 1, "evaluate_every": 3, "progress": False},
        "seed": 3,
    }
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            value = {**config[key], **value}
        config[key] = value
    return config


def tiny_model(head: str = "croco3d_linear_head") -> dict[str, Any]:
    """Options of a small DUSt3R model."""
    encoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    decoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {
        "encoder_config": {"model_type": "croco3d_croco_encoder", **encoder, "image_size": 32},
        "decoder_config": {"model_type": "croco3d_pair_decoder", **decoder},
        "head_config": {"model_type": head},
        "image_size": 32,
    }


def tiny_croco() -> dict[str, Any]:
    """Options of a CroCo model with the encoder and decoder of `tiny_model`."""
    stereo = tiny_model()
    return {
        "encoder_config": stereo["encoder_config"],
        "decoder_config": {**stereo["decoder_config"], "model_type": "croco3d_single_decoder"},
        "mask_ratio": 0.5,
        "image_size": 32,
    }


def _image(number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def _depth(number: int, scale: float) -> NDArray[np.float32]:
    column = np.arange(SIZE[0], dtype=np.float32)
    row = 2 + 0.3 * np.sin(column / 5 + number)
    return np.broadcast_to(row * scale, (SIZE[1], SIZE[0])).astype(np.float32)
