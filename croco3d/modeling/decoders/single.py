"""CroCo's decoder: one view, with the other as memory."""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..outputs import SingleDecoderOutput
from ..registry import DECODERS
from .base import CrossDecoder, DecoderConfig


@strict
class SingleDecoderConfig(DecoderConfig):
    """Configuration of `SingleDecoder`; see `DecoderConfig` for the options."""

    model_type = "croco3d_single_decoder"


@DECODERS.register("single")
class SingleDecoder(CrossDecoder):
    """Fills view 1's hidden patches, reading view 2 (CroCo, arXiv 2210.10716, section 3).

    Args:
        config: the decoder's config.
        in_channels: channels of the encoder's tokens.
        patch_size: side in pixels of the encoder's patches.
    """

    config_class = SingleDecoderConfig

    def __init__(
        self,
        config: SingleDecoderConfig,
        in_channels: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__(config, in_channels, patch_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.blocks = self.make_stack()
        self.post_init()

    def forward(
        self,
        visible1: Tensor,
        mask: Tensor | None,
        positions1: Tensor,
        hidden2: Tensor,
        positions2: Tensor,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> SingleDecoderOutput:
        """Decodes view 1.

        Args:
            visible1: encoder tokens of view 1's visible patches, `(B, N_visible, C)`.
            mask: `(B, N)` bool, true where a patch is hidden; `None` if none is.
            positions1: (row, column) of all of view 1's patches, `(B, N, 2)`.
            hidden2: encoder tokens of view 2, `(B, M, C)`.
            positions2: their (row, column), `(B, M, 2)`.
            output_hidden_states: whether to return every block's output.
            output_attentions: whether to return the cross-attentions.
        """
        x = self.embed(visible1)
        if mask is not None:
            x = self._fill(x, mask)
        x = self.place(x, positions1)
        memory = self.place(self.embed(hidden2), positions2)
        rotary1, rotary2 = self.rotary(positions1), self.rotary(positions2)
        levels, attentions = [], []
        for block in self.blocks:
            x, attention = block(x, memory, rotary1, rotary2, output_attentions)
            levels.append(x)
            attentions.append(attention)
        levels[-1] = self.norm(x)
        return SingleDecoderOutput(
            last_hidden_state=levels[-1],
            hidden_states=tuple(levels) if output_hidden_states else None,
            cross_attentions=tuple(attentions) if output_attentions else None,
        )

    def _fill(self, visible: Tensor, mask: Tensor) -> Tensor:
        # The k-th visible patch of a row is the k-th visible token: look each one up by its rank.
        rank = ((~mask).cumsum(dim=1) - 1).clamp(min=0)
        spread = visible.gather(1, rank[..., None].expand(-1, -1, visible.shape[-1]))
        return torch.where(mask[..., None], self.mask_token.to(visible.dtype), spread)
