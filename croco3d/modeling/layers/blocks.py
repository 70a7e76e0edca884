"""Transformer blocks of the encoder and of the decoders."""

from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import CrossAttention, SelfAttention, Tables

# Gain of the initial weights of a branch's last layer.
BRANCH_GAIN = 0.1


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
        mixed, attention = self.attention(self.norm1(x), rotary, output_attentions)
        x = x + self.drop_path(mixed)
        return x + self.drop_path(self.mlp(self.norm2(x))), attention


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
        x = x + self.attention(self.norm1(x), rotary)[0]
        memory = self.norm_memory(memory)
        mixed, attention = self.cross_attention(
            self.norm2(x), memory, rotary, rotary_memory, output_attentions
        )
        x = x + mixed
        return x + self.mlp(self.norm3(x)), attention


def _start_quiet(*last_layers: nn.Module) -> None:
    """Gives branches that are added to the tokens small weights at first.

    Untrained attention adds nearly the same vector to all tokens; at full size, what tells them
    apart drowns in it.
    """
    for layer in last_layers:
        layer.init_gain = BRANCH_GAIN  # pyright: ignore[reportArgumentType]
