"""Transformer blocks of the encoder and of the decoders."""

import timm.layers
from timm.layers import DropPath
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import CrossAttention, SelfAttention, Tables
from .recomputing import recomputing

# Gain of the initial weights of a branch's last layer.
BRANCH_GAIN = 0.1


class Mlp(timm.layers.Mlp):
    """timm's MLP without dropout, which can be trained in less memory.

    Args:
        dim: channels in and out.
        width: channels between.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width)

    def forward(self, x: Tensor, recompute: bool = False) -> Tensor:
        """Maps `(B, N, C)` to the same shape; see `recomputing` for `recompute`."""
        with recomputing((self.act, self.fc1(x)), enabled=recompute) as (active,):
            return self.fc2(active)


class EncoderBlock(GradientCheckpointingLayer):
    """Pre-norm block: self-attention, then an MLP (ViT, arXiv 2010.11929).

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: width of the MLP over `dim`.
        eps: epsilon of the norms.
        drop_path: share of samples for which a branch is skipped in training.
        config: the component's config, for the attention implementation.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        eps: float,
        drop_path: float,
        config: PreTrainedConfig,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, num_heads, config)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        _start_quiet(self.attention.proj, self.mlp.fc2)

    def forward(
        self, x: Tensor, rotary: Tables | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps tokens `(B, N, C)` to the same shape, with the attention if asked for."""
        recompute = _recomputes(self)
        with recomputing((self.norm1, x), enabled=recompute) as (normed,):
            mixed, attention = self.attention(normed, rotary, output_attentions)
        x = x + self.drop_path(mixed)
        with recomputing((self.norm2, x), enabled=recompute) as (normed,):
            return x + self.drop_path(self.mlp(normed, recompute)), attention


class CrossBlock(GradientCheckpointingLayer):
    """Pre-norm block that reads a memory: self-attention, cross-attention, MLP.

    The memory is normalised in each block (CroCo, arXiv 2210.10716, section 3).

    Args:
        dim: channels, also of the memory.
        num_heads: attention heads.
        mlp_ratio: width of the MLP over `dim`.
        eps: epsilon of the norms.
        config: the component's config, for the attention implementation.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, eps: float, config: PreTrainedConfig
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, num_heads, config)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.norm_memory = nn.LayerNorm(dim, eps=eps)
        self.cross_attention = CrossAttention(dim, num_heads, config)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        _start_quiet(self.attention.proj, self.cross_attention.proj, self.mlp.fc2)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        rotary: Tables | None = None,
        rotary_memory: Tables | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Maps `(B, N, C)`, reading `(B, M, C)`; returns `(B, heads, N, M)` attention if asked."""
        recompute = _recomputes(self)
        with recomputing((self.norm1, x), enabled=recompute) as (normed,):
            x = x + self.attention(normed, rotary)[0]
        both = ((self.norm2, x), (self.norm_memory, memory))
        with recomputing(*both, enabled=recompute) as (normed, normed_memory):
            mixed, attention = self.cross_attention(
                normed, normed_memory, rotary, rotary_memory, output_attentions
            )
        x = x + mixed
        with recomputing((self.norm3, x), enabled=recompute) as (normed,):
            return x + self.mlp(normed, recompute), attention


def _recomputes(block: GradientCheckpointingLayer) -> bool:
    # A checkpointed block keeps its input alone, and computes everything again.
    return block.training and not block.gradient_checkpointing


def _start_quiet(*last_layers: nn.Module) -> None:
    """Gives branches that are added to the tokens small weights at first.

    Untrained attention adds nearly the same vector to all tokens; at full size, what tells them
    apart drowns in it.
    """
    for layer in last_layers:
        layer.init_gain = BRANCH_GAIN  # pyright: ignore[reportArgumentType]
