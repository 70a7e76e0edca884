"""Multi-head attention within a view and across views.

`attn_implementation` chooses the kernel, as everywhere in transformers. Where the attention itself
is asked for, it is computed in full ("eager") for that call.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .positions import RotaryTurn

Tables = tuple[Tensor, Tensor]


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention written out.

    Args:
        module: unused; part of transformers' attention interface.
        query: `(B, heads, N, head_dim)`.
        key: `(B, heads, M, head_dim)`.
        value: `(B, heads, M, head_dim)`.
        attention_mask: unused; our tokens all see one another.
        scaling: factor of the scores.
        dropout: unused; this family trains without attention dropout.
        **kwargs: unused; other implementations take more.

    Returns:
        mixed values `(B, N, heads, head_dim)` and the attention `(B, heads, N, M)`.
    """
    attention = ((query * scaling) @ key.transpose(-2, -1)).softmax(dim=-1)
    return (attention @ value).transpose(1, 2), attention


def lean_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attention without gradients in the least memory: one image's scores at a time, in place.

    Touching fresh memory costs a CPU more than the softmax itself (measured).

    Args:
        query: `(B, heads, N, head_dim)`.
        key: `(B, heads, M, head_dim)`.
        value: `(B, heads, M, head_dim)`.
        scaling: factor of the scores.

    Returns:
        mixed values `(B, N, heads, head_dim)`.
    """
    batch, heads, tokens, channels = query.shape
    mixed = query.new_empty(batch, tokens, heads, channels)
    for image in range(batch):
        scores = (query[image] * scaling) @ key[image].transpose(-2, -1)
        torch.softmax(scores, dim=-1, out=scores)
        mixed[image] = (scores @ value[image]).transpose(0, 1)
    return mixed


def attend(
    module: nn.Module,
    config: PreTrainedConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output_attentions: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Runs the attention that the config asks for.

    Returns:
        `(B, N, heads * head_dim)` and, if asked for, the attention `(B, heads, N, M)`.
    """
    function, scaling = eager_attention, query.shape[-1] ** -0.5
    # PyTorch's fused kernel is several times slower than the products written out on CPUs in
    # half precision (measured), and can give no attention weights.
    slow_fused = query.device.type == "cpu" and query.dtype != torch.float32
    chosen = config._attn_implementation or "eager"
    if not output_attentions and not (chosen == "sdpa" and slow_fused):
        function = ALL_ATTENTION_FUNCTIONS.get_interface(chosen, eager_attention)
    elif not output_attentions and not torch.is_grad_enabled() and not _is_traced():
        return lean_attention(query, key, value, scaling).flatten(2), None
    mixed, attention = function(module, query, key, value, None, dropout=0.0, scaling=scaling)
    return mixed.flatten(2), attention if output_attentions else None


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class SelfAttention(nn.Module):
    """Attention of a view's tokens to one another.

    Args:
        dim: channels.
        num_heads: number of heads.
        config: the component's config, read for `attn_implementation` at every call.
    """

    is_causal = False

    def __init__(self, dim: int, num_heads: int, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config, self.num_heads = config, num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.turn: nn.Module = RotaryTurn()

    def forward(
        self, x: Tensor, rotary: Tables | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps `(B, N, C)` to the same shape and, if asked for, `(B, heads, N, N)` attention."""
        qkv = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).transpose(1, 2)
        both, value = qkv.split((2 * self.num_heads, self.num_heads), dim=1)
        if rotary is not None:
            both = self.turn(both, rotary)
            if torch.is_grad_enabled():
                # A copy, so that it does not keep queries and keys as they were before the turn.
                value = value.contiguous()
        query, key = both.chunk(2, dim=1)
        mixed, attention = attend(self, self.config, query, key, value, output_attentions)
        return self.proj(mixed), attention


class CrossAttention(nn.Module):
    """Attention of one view's tokens to the other view's.

    Args:
        dim: channels.
        num_heads: number of heads.
        config: the component's config, read for `attn_implementation` at every call.
    """

    is_causal = False

    def __init__(self, dim: int, num_heads: int, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config, self.num_heads = config, num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.turn: nn.Module = RotaryTurn()

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        rotary: Tables | None = None,
        rotary_memory: Tables | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Maps `(B, N, C)`, reading `(B, M, C)`; returns attention `(B, heads, N, M)` if asked."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        if rotary is not None and rotary_memory is not None:
            query, key = self.turn(query, rotary), self.turn(key, rotary_memory)
        mixed, attention = attend(self, self.config, query, key, value, output_attentions)
        return self.proj(mixed), attention
