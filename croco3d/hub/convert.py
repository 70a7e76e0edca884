"""Between our layout and the published ones, on disk."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..files import atomic_folder, atomic_path
from ..modeling.components import Croco3DModel
from ..modeling.croco import CrocoForPreTraining
from .auto import AutoCroco3D
from .original_configs import to_original_config
from .original_names import to_original
from .sources import HEAD_NAMES


def convert(source: str | os.PathLike, target: str | os.PathLike, layout: str = "croco3d") -> Path:
    """Rewrites a checkpoint in another layout.

    Args:
        source: whatever `AutoCroco3D.from_pretrained` takes; a LoRA adapter is merged into its
            model.
        target: folder to write; for "original", a path that ends in `.pth` gives the layout of
            the original training code, any other the one of the original Hub repositories.
        layout: "croco3d" (ours) or "original".

    Returns:
        what was written.

    Raises:
        ValueError: if the layout is unknown or cannot hold the model.
    """
    if layout not in ("croco3d", "original"):
        raise ValueError(f"Unknown layout {layout!r}: choose 'croco3d' or 'original'.")
    target = Path(target)
    model = merged(AutoCroco3D.from_pretrained(source))
    if layout == "original":
        return save_original(model, target)
    if target.suffix in (".pth", ".pt"):
        raise ValueError(f"Our layout is a folder; give one instead of {os.fspath(target)!r}.")
    with atomic_folder(target) as folder:
        model.save_pretrained(folder)
    return target


def merged(model: Any) -> Croco3DModel:
    """Returns a model as it is, and a LoRA adapter's model with the adapter merged in."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def save_original(model: Croco3DModel, target: str | os.PathLike) -> Path:
    """Saves a model in the published layout, so that the original code and its ports read it.

    Args:
        model: a CroCo, DUSt3R or MASt3R model of components that the original code knows.
        target: a `.pth` file, or a folder for `config.json` and `model.safetensors`. CroCo models
            were only ever published as `.pth`.

    Raises:
        ValueError: if the original layout cannot hold the model.
    """
    target = Path(target)
    config: Any = model.config
    head = HEAD_NAMES[config.head_config.model_type]
    options = to_original_config(config)
    weights = to_original({k: v.contiguous() for k, v in model.state_dict().items()}, head)
    _restore_unused(model, weights)
    if target.suffix in (".pth", ".pt"):
        with atomic_path(target) as path:
            torch.save(_pth_payload(model, options, weights), path)
        return target
    if isinstance(model, CrocoForPreTraining):
        raise ValueError(f"CroCo was published as .pth only: give such a name, not {target}.")
    with atomic_folder(target) as folder:
        (folder / "config.json").write_text(json.dumps(options, indent=2))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return target


def _restore_unused(model: Croco3DModel, weights: dict[str, Tensor]) -> None:
    """Fills in weights that nothing reads but that strict loaders of the original code expect."""
    config: Any = model.config
    decoder = config.decoder_config
    weights.setdefault("mask_token", torch.zeros(1, 1, decoder.hidden_size))
    for name in [name for name in weights if ".scratch.refinenet4.resConfUnit2." in name]:
        unused = name.replace("resConfUnit2", "resConfUnit1")
        weights.setdefault(unused, torch.zeros_like(weights[name]))


def _pth_payload(
    model: Croco3DModel, options: dict[str, Any], weights: dict[str, Tensor]
) -> dict[str, Any]:
    if isinstance(model, CrocoForPreTraining):
        return {"model": weights, "croco_kwargs": options}
    for name in list(weights):
        for level in range(1, 5):
            duplicate = name.replace(f".layer{level}_rn.", f".layer_rn.{level - 1}.")
            weights[duplicate] = weights[name]
    name = "AsymmetricMASt3R" if "two_confs" in options else "AsymmetricCroCo3DStereo"
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    arguments = ", ".join(f"{key}={value!r}" for key, value in values.items())
    return {"model": weights, "args": argparse.Namespace(model=f"{name}({arguments})")}
