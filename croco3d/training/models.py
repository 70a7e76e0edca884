"""Models as options: built or loaded, with weights of an earlier stage, frozen, or with LoRA."""

import logging
import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .options import Choice

logger = logging.getLogger(__name__)

_TRUNK = ("encoder", "decoder")


@dataclass(kw_only=True)
class LoraOptions:
    """Low-rank adapters (arXiv 2106.09685) in place of training the weights themselves.

    Attributes:
        modules: names, or ends of names, of the linear layers to adapt.
        rank: of each adapter.
        alpha: adapters are scaled by `alpha / rank`.
        dropout: on an adapter's input.
        train_also: modules trained whole, such as the heads.
    """

    modules: list[str]
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    train_also: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class ModelOptions(Choice):
    """One model, with what is done to it before training.

    Attributes:
        config: options of the model's configuration; not with `pretrained`.
        pretrained: where to load the whole model from; not with `config`.
        init_from: a model, of an earlier stage or from the Hub, whose weights are taken over where
            name and shape agree. What stays new is said loudly.
        attention: attention implementation, such as "eager" or "sdpa"; `None` for the default.
        freeze: names of parts that are not trained, as `model.freeze` takes them.
        lora: adapters to train instead of weights.
    """

    config: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    init_from: str | None = None
    attention: str | None = None
    freeze: list[str] = field(default_factory=list)
    lora: LoraOptions | None = None

    def __post_init__(self) -> None:
        """Check that the sources do not contradict one another.

        Raises:
            ValueError: if the model comes from two places.
        """
        if self.pretrained and (self.config or self.init_from):
            raise ValueError(
                "pretrained loads a whole model; leave out config and init_from, or replace "
                "pretrained by them"
            )

    @property
    @abstractmethod
    def model_class(self) -> type[PreTrainedModel]:
        """The class of the model."""

    def build(self, weights: bool = True) -> nn.Module:
        """Make the model, in float32.

        Args:
            weights: whether to read `init_from`; a run that goes on has its own weights.
        """
        if self.pretrained:
            model = self.model_class.from_pretrained(self.pretrained, dtype=torch.float32)
        else:
            model = self.model_class(self.model_class.config_class(**self.config))  # pyright: ignore[reportOptionalCall]
        if self.attention:
            model.set_attn_implementation(self.attention)
        if self.init_from and weights:
            self.take_over(model, self.init_from)
        elif weights and not self.pretrained:
            logger.info("all weights are newly initialised")
        _own_memory(model)
        if self.freeze:
            model.freeze(*self.freeze)  # pyright: ignore[reportCallIssue]
        return model if self.lora is None else _with_lora(model, self.lora)

    def take_over(self, model: PreTrainedModel, source: str) -> None:
        """Copy the weights of another model wherever name and shape agree."""
        from croco3d.hub import AutoCroco3D

        copy_matching(AutoCroco3D.from_pretrained(source, dtype=torch.float32), model, source)


@dataclass(kw_only=True)
class Dust3rOptions(ModelOptions, name="dust3r"):
    """`Dust3rForStereo`. `init_from` may also be a CroCo model, whose decoder both stacks copy."""

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class of the model."""
        from croco3d.modeling.dust3r import Dust3rForStereo

        return Dust3rForStereo

    def take_over(self, model: PreTrainedModel, source: str) -> None:
        """Copy the weights of a stereo model, or those of a CroCo model."""
        from croco3d.hub import AutoCroco3D
        from croco3d.modeling.croco import CrocoForPreTraining
        from croco3d.modeling.dust3r import Dust3rForStereo
        from croco3d.modeling.registry import DECODERS

        earlier = AutoCroco3D.from_pretrained(source, dtype=torch.float32)
        if not isinstance(earlier, CrocoForPreTraining):
            copy_matching(earlier, model, source)
            return
        decoder = DECODERS.name_of(model.config.decoder_config)
        started = Dust3rForStereo.from_croco(earlier, decoder, model.config.head_config)
        # Its heads are as new as those of the model.
        copy_matching(nn.ModuleDict({k: getattr(started, k) for k in _TRUNK}), model, source)


@dataclass(kw_only=True)
class CrocoOptions(ModelOptions, name="croco"):
    """`CrocoForPreTraining`."""

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class of the model."""
        from croco3d.modeling.croco import CrocoForPreTraining

        return CrocoForPreTraining


def copy_matching(source: nn.Module, target: nn.Module, name: str) -> tuple[list[str], list[str]]:
    """Copy weights wherever name and shape agree, and say what did not.

    Args:
        source: whose weights are read.
        target: whose weights are written.
        name: of the source, for messages.

    Returns:
        Names in `target` that keep their values, names in `source` that were not used.

    Raises:
        ValueError: if not one weight agrees.
    """
    offered, wanted = source.state_dict(), target.state_dict()
    taken = [k for k, v in wanted.items() if k in offered and offered[k].shape == v.shape]
    if not taken:
        raise ValueError(f"{name} shares no weight with {type(target).__name__}")
    with torch.no_grad():
        for key in taken:
            wanted[key].copy_(offered[key])
    new = [key for key in wanted if key not in taken]
    unused = [key for key in offered if key not in taken]
    logger.info("took over %d of %d weights from %s", len(taken), len(wanted), name)
    if new:
        logger.warning("newly initialised: %s", _summary(new))
    if unused:
        logger.warning("not used from %s: %s", name, _summary(unused))
    return new, unused


def _summary(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


def _own_memory(model: nn.Module) -> None:
    # Weights mapped from a file may start at odd addresses, where vector kernels round
    # differently; a resumed run, which copies into fresh memory, would then not be bitwise equal.
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def _with_lora(model: PreTrainedModel, lora: LoraOptions) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        target_modules=lora.modules,
        modules_to_save=lora.train_also or None,
    )
    with warnings.catch_warnings():
        # peft still reads the old name of activation checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


@dataclass(kw_only=True)
class Mast3rOptions(Dust3rOptions, name="mast3r"):
    """`Mast3rForStereo`. `init_from` may be a DUSt3R or a CroCo model."""

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class of the model."""
        from croco3d.modeling.mast3r import Mast3rForStereo

        return Mast3rForStereo
