"""From a name, folder or file to a configuration and weights by our names."""

import argparse
import json
import logging
import os
import pickle
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils.hub import resolve_revision

from .download import WEIGHTS, fetch
from .known import find_known
from .original_configs import (
    croco_from_original,
    is_original,
    parse_constructor,
    stereo_from_original,
)
from .original_names import from_original

logger = logging.getLogger(__name__)

BUNDLED = {"croco3d-rooms": "assets/croco3d-rooms"}

# What the published `.pth` files hold beside tensors.
_SAFE_GLOBALS = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,  # pyright: ignore[reportAttributeAccessIssue]
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]
HEAD_NAMES = {
    "croco3d_linear_head": "linear",
    "croco3d_dpt_head": "dpt",
    "croco3d_matching_head": "matching",
    "croco3d_pixels_head": "pixels",
}


@dataclass
class Source:
    """Where a model comes from.

    Attributes:
        name: folder, file or repository.
        config: config.json as it stands; empty for a `.pth` file.
        hub_options: `revision`, `token`, `cache_dir` and the like.
        adapter: adapter_config.json as it stands, where it is a LoRA adapter of another model.
        asked: the name it was asked for by, which for a bundled model is not its folder.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    hub_options: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)
    asked: str = ""

    @property
    def is_pth(self) -> bool:
        """Whether it is a `.pth` file of the original training code."""
        return self.name.endswith((".pth", ".pt"))

    @property
    def is_original(self) -> bool:
        """Whether it is in one of the published layouts."""
        return self.is_pth or is_original(self.config)

    @cached_property
    def original(self) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
        """What `read_original` reads, once: finding out the kind of a model reads all of it."""
        return read_original(self)

    @property
    def license(self) -> str | None:
        """Licence of the weights, where it is known."""
        known = find_known(self.name)
        if known is not None:
            return known.license
        if self.config.get("license"):
            return self.config["license"]
        card = None if self.is_pth else self._card()
        if card is None:
            return None
        return ModelCard.load(card, ignore_metadata_errors=True).data.get("license")

    def _card(self) -> str | None:
        options = dict(self.hub_options)
        for name in ("subfolder", "force_download"):
            options.pop(name, None)
        try:
            return fetch(self.name, "README.md", **options)
        except OSError:
            # Without a connection, a model that is in the cache loads without its card.
            return None


def locate(name: str) -> str:
    """Returns the folder of a bundled model, any other name as it is."""
    if name not in BUNDLED or Path(name).exists():
        return name
    return str(files("croco3d") / BUNDLED[name])


def open_source(name: str | os.PathLike, **hub_options: Any) -> Source:
    """Finds a model and reads its configuration, not its weights.

    Args:
        name: a folder, a `.pth` file, a repository on the Hub, or the name of a bundled model.
        **hub_options: `revision`, `token`, `cache_dir`, `subfolder`, `local_files_only`,
            `force_download`.

    Raises:
        OSError: if there is no such model, or the Hub cannot be reached.
        ValueError: if its configuration cannot be read.
    """
    name = os.fspath(name)
    if Path(name).is_file() and not Source(name).is_pth:
        raise OSError(f"{name!r} is neither a folder with a config.json nor a .pth checkpoint.")
    asked, name = name, locate(name)
    if name != asked:
        logger.info("%r comes with croco3d; it is read from %s.", asked, name)
    if Source(name).is_pth:
        if not Path(name).is_file():
            raise FileNotFoundError(f"There is no checkpoint file {name!r}.")
        return Source(name)
    options = {key: value for key, value in hub_options.items() if value is not None}
    # Configuration and weights come from one commit, whatever is pushed in the meantime.
    resolving = {key: options.get(key) for key in ("revision", "token", "cache_dir")}
    revision = resolve_revision(
        name, local_files_only=bool(options.get("local_files_only")), **resolving
    )
    if revision is not None:
        options["revision"] = revision
    path = fetch(name, "config.json", **options)
    if path is not None:
        return Source(name, _read_config(name, path), options, asked=asked)
    adapter = fetch(name, "adapter_config.json", **options)
    if adapter is None:
        raise OSError(_without_config(name, options.get("subfolder", "")))
    return Source(name, {}, options, json.loads(Path(adapter).read_text(encoding="utf-8")))


def _read_config(name: str, path: str) -> dict[str, Any]:
    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except OSError as error:
        raise OSError(f"The config.json of {name!r} cannot be read: {error}") from error
    if not config:
        raise OSError(f"The config.json of {name!r} is empty.")
    return config


def _without_config(name: str, subfolder: str) -> str:
    inside = f" (subfolder {subfolder!r})" if subfolder else ""
    if Path(name).is_dir():
        return f"The folder {name!r}{inside} holds no config.json that can be read."
    return f"The repository {name!r}{inside} holds no config.json: it is no model of this kind."


def read_original(source: Source, lazy: bool = False) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Reads a published checkpoint: its configuration in our form, its weights by our names.

    Args:
        source: where it is.
        lazy: whether a `.safetensors` file is only opened; see `open_safetensors`.

    Returns:
        the configuration, and the weights by our names.

    Raises:
        ValueError: if the file is damaged, holds code, or is of an unknown kind.
    """
    if source.is_pth:
        config, weights = _read_pth(source.name)
    else:
        config = stereo_from_original(_published_options(source.config))
        path = fetch(source.name, WEIGHTS, **source.hub_options)
        if path is None:
            raise OSError(f"{source.name!r} holds no {WEIGHTS}.")
        weights = open_safetensors(path) if lazy else read_safetensors(path)
    config.license = source.license
    head: Any = config.head_config  # pyright: ignore[reportAttributeAccessIssue]
    renamed = from_original(weights, HEAD_NAMES[head.model_type])
    _drop_absent(config, renamed)
    return config, renamed


def read_safetensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """Reads a `.safetensors` file, mapped from the disk.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def open_safetensors(path: str | os.PathLike) -> dict[str, Any]:
    """Opens a `.safetensors` file without mapping it: `value[...]` reads one tensor.

    Pages of a mapped file count as the process's memory once they are read; so a model that is
    cast while it is loaded is read tensor by tensor instead.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", backend="pread") as file:
            return {name: file.get_slice(name) for name in file.keys()}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike, error: SafetensorError) -> ValueError:
    return ValueError(f"{os.fspath(path)!r} is damaged or incomplete ({error}); download it again.")


def _published_options(config: dict[str, Any]) -> dict[str, Any]:
    # What transformers or the Hub's own mixin add beside the constructor's arguments.
    added = {"architectures", "transformers_version", "torch_dtype", "dtype", "_commit_hash"}
    return {key: value for key, value in config.items() if key not in added}


def _read_pth(path: str) -> tuple[Any, dict[str, Tensor]]:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            payload = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_unsafe(path)) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path!r} is damaged or no checkpoint ({str(error).splitlines()[0]}); "
            "download it again."
        ) from error
    if not isinstance(payload, dict) or not isinstance(payload.get("model"), dict):
        raise ValueError(f"{path!r} holds no 'model' weights: it is no CroCo or DUSt3R checkpoint.")
    weights = payload["model"]
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path!r} holds something else than tensors under 'model'.")
    if any(name.startswith(("dec_blocks2.", "downstream_head1.")) for name in weights):
        text = getattr(payload.get("args"), "model", None)
        if not isinstance(text, str):
            raise ValueError(f"{path!r} holds no args.model, which says how its model is built.")
        # The published loader always turned landscape storage off.
        options = {**parse_constructor(text), "landscape_only": False}
        return stereo_from_original(options), weights
    return croco_from_original(payload.get("croco_kwargs") or {}), weights


def _unsafe(path: str) -> str:
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError):
        names = []
    held = f" ({', '.join(names)})" if names else ""
    return (
        f"{path!r} holds code or objects that are not loaded{held}: only tensors, numbers and "
        "argparse namespaces are. Use a checkpoint from a source you trust, or its .safetensors."
    )


def _drop_absent(config: Any, weights: dict[str, Tensor]) -> None:
    """Leaves out the places of weights that are never used, where a checkpoint lacks them."""
    if hasattr(config.decoder_config, "keep_mask_token"):
        config.decoder_config.keep_mask_token = "decoder.mask_token" in weights
    points = getattr(config.head_config, "points_config", config.head_config)
    if hasattr(points, "keep_unused_unit"):
        points.keep_unused_unit = any(".unused_unit." in name for name in weights)
