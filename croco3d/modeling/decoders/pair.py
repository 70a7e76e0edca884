"""DUSt3R's decoder of two views that read each other at every depth."""

from collections.abc import Iterable

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..components import PairDecoderBase
from ..outputs import PairDecoderOutput
from ..registry import DECODERS
from .base import CrossDecoder, DecoderConfig


@strict
class PairDecoderConfig(DecoderConfig):
    """Configuration of `PairDecoder`; see `DecoderConfig` for the shared options.

    Attributes:
        keep_mask_token: whether to carry CroCo's mask token, which published DUSt3R checkpoints
            hold though nothing reads it, so that they convert back unchanged.
    """

    model_type = "croco3d_pair_decoder"

    keep_mask_token: bool = False


@strict
class SharedPairDecoderConfig(DecoderConfig):
    """Configuration of `SharedPairDecoder`; see `DecoderConfig` for the options."""

    model_type = "croco3d_shared_pair_decoder"


class TwoViewDecoder(CrossDecoder, PairDecoderBase):
    """Runs two stacks side by side; subclasses say which blocks they are."""

    def block_pairs(self) -> Iterable[tuple[nn.Module, nn.Module]]:
        """Yields, for each depth, the blocks of view 1 and of view 2."""
        raise NotImplementedError

    def forward(
        self,
        hidden1: Tensor,
        positions1: Tensor,
        hidden2: Tensor,
        positions2: Tensor,
        output_attentions: bool = False,
    ) -> PairDecoderOutput:
        """Decodes two views; see `PairDecoderBase.forward`."""
        x1 = self.place(self.embed(hidden1), positions1)
        x2 = self.place(self.embed(hidden2), positions2)
        rotary1, rotary2 = self.rotary(positions1), self.rotary(positions2)
        levels1, levels2, attentions1, attentions2 = [], [], [], []
        for block1, block2 in self.block_pairs():
            # Both blocks read the other view as the previous depth left it.
            (x1, attention1), (x2, attention2) = (
                block1(x1, x2, rotary1, rotary2, output_attentions),
                block2(x2, x1, rotary2, rotary1, output_attentions),
            )
            levels1.append(x1)
            levels2.append(x2)
            attentions1.append(attention1)
            attentions2.append(attention2)
        levels1[-1], levels2[-1] = self.norm(x1), self.norm(x2)
        return PairDecoderOutput(
            levels1=tuple(levels1),
            levels2=tuple(levels2),
            cross_attentions1=tuple(attentions1) if output_attentions else None,
            cross_attentions2=tuple(attentions2) if output_attentions else None,
        )


@DECODERS.register("pair")
class PairDecoder(TwoViewDecoder):
    """Two stacks of equal shape and separate weights (DUSt3R, arXiv 2312.14132, section 3.1).

    Args:
        config: the decoder's config.
        in_channels: channels of the encoder's tokens.
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = PairDecoderConfig

    def __init__(
        self,
        config: PairDecoderConfig,
        in_channels: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config, in_channels, patch_size)
        self.blocks1, self.blocks2 = self.make_stack(), self.make_stack()
        if config.keep_mask_token:
            self.register_buffer("mask_token", torch.zeros(1, 1, config.hidden_size))
        self.post_init()

    def block_pairs(self) -> Iterable[tuple[nn.Module, nn.Module]]:
        """Yields, for each depth, the blocks of view 1 and of view 2."""
        return zip(self.blocks1, self.blocks2, strict=True)


@DECODERS.register("shared_pair")
class SharedPairDecoder(TwoViewDecoder):
    """One stack for both views: half the parameters, and no notion of which view is the first.

    Args:
        config: the decoder's config.
        in_channels: channels of the encoder's tokens.
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = SharedPairDecoderConfig

    def __init__(
        self,
        config: SharedPairDecoderConfig,
        in_channels: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config, in_channels, patch_size)
        self.blocks = self.make_stack()
        self.post_init()

    def block_pairs(self) -> Iterable[tuple[nn.Module, nn.Module]]:
        """Yields, for each depth, the same block for both views."""
        return zip(self.blocks, self.blocks, strict=True)
