"""Classes that find out which model a checkpoint holds."""

import os
from typing import Any

from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ..modeling.components import Croco3DModel
from ..modeling.croco import CrocoConfig, CrocoForPreTraining
from ..modeling.dust3r import Dust3rConfig, Dust3rForStereo
from ..modeling.mast3r import Mast3rConfig, Mast3rForStereo
from ..modeling.registry import ENCODERS
from .download import fetch
from .loading import HUB_OPTIONS, load_pretrained
from .sources import Source, open_source

MODELS: dict[type[PreTrainedConfig], type[Croco3DModel]] = {
    CrocoConfig: CrocoForPreTraining,
    Dust3rConfig: Dust3rForStereo,
    Mast3rConfig: Mast3rForStereo,
}
for _config_class, _model_class in MODELS.items():
    AutoConfig.register(_config_class.model_type, _config_class)
    AutoModel.register(_config_class, _model_class)


class AutoCroco3D:
    """Loads whichever whole model a checkpoint holds, a LoRA adapter with the model under it."""

    @staticmethod
    def from_config(config: PreTrainedConfig) -> Croco3DModel:
        """Builds the model of a config, with fresh weights.

        Raises:
            ValueError: if the config is none of a whole model.
        """
        if type(config) not in MODELS:
            names = ", ".join(known.__name__ for known in MODELS)
            raise ValueError(f"{type(config).__name__} is no config of a whole model ({names}).")
        return MODELS[type(config)](config)

    @staticmethod
    def from_pretrained(source: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Loads a model; see `Dust3rForStereo.from_pretrained` for the options.

        Args:
            source: a folder, a `.pth` file, a repository on the Hub, or a bundled model's name.
            *args: as in transformers.
            **kwargs: as in transformers.

        Returns:
            the model; for a LoRA adapter, a `peft.PeftModel` around its model.

        Raises:
            OSError: if there is no such model.
            ValueError: if it holds something else, or is damaged.
        """
        opened = open_source(source, **_hub_options(kwargs))
        if opened.adapter:
            return _load_adapter(opened, *args, **kwargs)
        if opened.is_original:
            kind = type(opened.original[0]).model_type
        else:
            kind = opened.config.get("model_type")
        classes = {config.model_type: model for config, model in MODELS.items()}
        if kind not in classes:
            raise ValueError(
                f"{opened.name!r} holds a {kind!r}, not a whole model ({', '.join(classes)}). "
                "AutoEncoder.from_pretrained loads encoders; components load by their own class."
            )
        return _load(classes[kind], opened, *args, **kwargs)


class AutoEncoder:
    """Loads the encoder alone, out of any checkpoint that has one."""

    @staticmethod
    def from_pretrained(source: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Loads an encoder from its own folder, one of our whole models, or a published one.

        Args:
            source: a folder, a `.pth` file, a repository on the Hub, or a bundled model's name.
            *args: as in transformers.
            **kwargs: as in transformers.

        Raises:
            OSError: if there is no such model.
            ValueError: if it holds no encoder, or is damaged.
        """
        opened = open_source(source, **_hub_options(kwargs))
        if opened.is_original:
            kind = "croco3d_croco_encoder"
        else:
            part = opened.config.get("encoder_config", opened.config)
            kind = part.get("model_type")
        classes = {
            ENCODERS.config_class(name).model_type: ENCODERS.model_class(name) for name in ENCODERS
        }
        if kind not in classes:
            raise ValueError(
                f"{opened.name!r} holds no encoder (its model_type is {kind!r}); registered "
                f"encoders: {', '.join(ENCODERS)}."
            )
        return _load(classes[kind], opened, *args, **kwargs)


def _load(model_class: Any, opened: Any, *args: Any, **kwargs: Any) -> Any:
    load: Any = getattr(super(Croco3DModel, model_class), "from_pretrained")  # noqa: B009
    return load_pretrained(model_class, load, opened, *args, **kwargs)


def _load_adapter(opened: Source, *args: Any, **kwargs: Any) -> Any:
    """Loads the model that an adapter was trained on, and puts the adapter on it."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError(
            f"{opened.name!r} is a LoRA adapter, which needs peft: pip install 'croco3d[train]'."
        ) from error
    under = opened.adapter.get("base_model_name_or_path")
    if not under:
        raise ValueError(
            f"{opened.name!r} does not say which model it adapts; load that model and call "
            "peft.PeftModel.from_pretrained(model, ...)."
        )
    about_adapter = ("revision", "subfolder")
    shared = {key: value for key, value in kwargs.items() if key not in about_adapter}
    model = AutoCroco3D.from_pretrained(
        under, *args, revision=opened.adapter.get("revision"), **shared
    )
    fetch(opened.name, "adapter_model.safetensors", **opened.hub_options)
    return PeftModel.from_pretrained(model, opened.name, **opened.hub_options)


def _hub_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
