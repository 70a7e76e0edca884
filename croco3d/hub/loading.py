"""One way in for every kind of checkpoint."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from ..modeling.components import Croco3DModel
from .download import fetch_weights
from .known import is_restrictive
from .sources import Source, open_safetensors, open_source, read_original

logger = logging.getLogger(__name__)

HUB_OPTIONS = (
    "revision",
    "token",
    "cache_dir",
    "subfolder",
    "local_files_only",
    "force_download",
)


def load_pretrained(
    model_class: type[Croco3DModel],
    load: Callable[..., Any],
    source: str | os.PathLike | Source,
    *args: Any,
    **options: Any,
) -> Any:
    """Loads a model or component from our layout or a published one.

    Args:
        model_class: the class to load.
        load: transformers' `from_pretrained` of that class.
        source: a folder, a `.pth` file, a repository on the Hub, the name of a bundled model, or
            what `open_source` returned for one.
        *args: passed to `load`.
        **options: options of `from_pretrained`.

    Raises:
        OSError: if there is no such model.
        ValueError: if it is of another kind, damaged, or its weights do not fit.
    """
    if not isinstance(source, Source):
        source = open_source(source, **{k: options[k] for k in HUB_OPTIONS if k in options})
    if source.adapter:
        under = source.adapter.get("base_model_name_or_path")
        raise ValueError(
            f"{source.name!r} holds no model but a LoRA adapter of {under!r}; "
            "AutoCroco3D.from_pretrained loads both."
        )
    show_license(source.name, source.license)
    wants_info = options.pop("output_loading_info", False)
    options = {key: value for key, value in options.items() if key not in HUB_OPTIONS}
    cast = _is_cast(options)
    if source.is_original:
        config, weights = read_original(source, lazy=True) if cast else source.original
        config, weights = _select(model_class, config, weights, source.name)
        load_from = {"pretrained_model_name_or_path": None, "state_dict": weights}
        options.setdefault("config", config)
    else:
        _check_kind(model_class, source)
        files = []
        if not options.get("variant"):
            files = fetch_weights(source.name, **source.hub_options)
        # What was just downloaded need not be downloaded again.
        found = {k: v for k, v in source.hub_options.items() if k != "force_download"}
        load_from = {"pretrained_model_name_or_path": source.name, **found}
        if cast and files:
            assert model_class.config_class is not None
            options.setdefault("config", model_class.config_class.from_pretrained(**load_from))
            weights = {k: v for file in files for k, v in open_safetensors(file).items()}
            load_from = {"pretrained_model_name_or_path": None, "state_dict": weights}
    try:
        model, info = load(*args, **load_from, output_loading_info=True, **options)
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {source.name!r} are damaged or incomplete ({error}); download them "
            "again."
        ) from error
    _check_complete(info, source.name)
    # Adapters trained on the model record where it came from.
    model.name_or_path = source.asked or source.name
    return (model, info) if wants_info else model


def _is_cast(options: dict[str, Any]) -> bool:
    """Tells whether weights are to be cast while they are loaded, to this process's memory."""
    placed = options.get("device_map") or options.get("quantization_config")
    dtype = options.get("dtype", options.get("torch_dtype"))
    halves = (torch.bfloat16, torch.float16, "bfloat16", "float16")
    return not placed and dtype in halves


def _select(
    model_class: type[Croco3DModel],
    config: PreTrainedConfig,
    weights: dict[str, Any],
    name: str,
) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Picks what a class needs of a whole published model."""
    wanted = model_class.config_class
    assert wanted is not None
    if type(config) is wanted:
        return config, weights
    for prefix in ("encoder", "decoder"):
        part = getattr(config, f"{prefix}_config")
        if type(part) is wanted:
            start = f"{prefix}."
            return part, {
                key.removeprefix(start): value
                for key, value in weights.items()
                if key.startswith(start)
            }
    raise ValueError(_other_kind(model_class, name, config.model_type))


def _check_kind(model_class: type[Croco3DModel], source: Source) -> None:
    wanted = model_class.config_class
    assert wanted is not None
    parts = [source.config, *(v for v in source.config.values() if isinstance(v, dict))]
    kinds = [part.get("model_type") for part in parts]
    if wanted.model_type not in kinds:
        raise ValueError(_other_kind(model_class, source.name, str(kinds[0])))


def _other_kind(model_class: type, name: str, kind: str) -> str:
    hint = ""
    if kind == "croco3d_croco" and model_class.__name__ == "Dust3rForStereo":
        hint = " Dust3rForStereo.from_croco(...) starts a DUSt3R model from it."
    return (
        f"{name!r} holds a {kind!r} model, not what {model_class.__name__} loads; "
        f"AutoCroco3D.from_pretrained takes whichever it is.{hint}"
    )


def _check_complete(info: Any, name: str) -> None:
    for problem in ("missing_keys", "unexpected_keys"):
        keys = sorted(_get(info, problem))
        if keys:
            shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            raise ValueError(
                f"The weights of {name!r} do not fit its configuration: "
                f"{problem.removesuffix('_keys')} {shown}."
            )


def _get(info: Any, key: str) -> Any:
    return info[key] if isinstance(info, dict) else getattr(info, key)


def show_license(name: str, license_name: str | None) -> None:
    """Warns, once for each model, where a licence is known to be restrictive."""
    if is_restrictive(license_name):
        _warn_license(name, str(license_name))


@cache
def _warn_license(name: str, license_name: str) -> None:
    logger.warning(
        "The weights of %s are licensed %s: not for commercial use. croco3d itself is Apache-2.0.",
        name,
        license_name,
    )
