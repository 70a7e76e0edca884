"""Attention whose rotary turn is one complex product.

Packing permutes the rows of the query and key products, so that the two channels that turn
together lie side by side. Queries and keys are permuted alike: their products stay the same.
"""

import torch
from torch import Tensor, nn

from ..layers.attention import CrossAttention, SelfAttention, Tables, attend
from .packed import PackedLinear


class FastSelfAttention(nn.Module):
    """`SelfAttention` for inference on CPUs.

    Args:
        attention: the layer to take over; its products are emptied until `unpack`.
    """

    is_causal = False

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.config, self.num_heads = attention.config, attention.num_heads
        dim = attention.proj.in_features
        turned = side_by_side(2 * dim, dim // self.num_heads)
        rows = torch.cat((turned, torch.arange(2 * dim, 3 * dim)))
        self.qkv = PackedLinear(attention.qkv, rows=rows)
        self.proj = PackedLinear(attention.proj)

    def forward(
        self, x: Tensor, rotary: Tables | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps `(B, N, C)` to the same shape; see `SelfAttention.forward`."""
        qkv = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1))
        turned, value = qkv[:, :, : 2 * self.num_heads], qkv[:, :, 2 * self.num_heads :]
        if rotary is not None:
            turned = turn(turned, complex_table(rotary))
        query, key = turned.transpose(1, 2).chunk(2, dim=1)
        value = value.transpose(1, 2)
        mixed, attention = attend(self, self.config, query, key, value, output_attentions)
        return self.proj(mixed), attention


class FastCrossAttention(nn.Module):
    """`CrossAttention` for inference on CPUs.

    Args:
        attention: the layer to take over; its products are emptied until `unpack`.
    """

    is_causal = False

    def __init__(self, attention: CrossAttention) -> None:
        super().__init__()
        self.config, self.num_heads = attention.config, attention.num_heads
        dim = attention.proj.in_features
        rows = side_by_side(dim, dim // self.num_heads)
        self.query = PackedLinear(attention.query, rows=rows)
        self.key = PackedLinear(attention.key, rows=rows)
        self.value = PackedLinear(attention.value)
        self.proj = PackedLinear(attention.proj)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        rotary: Tables | None = None,
        rotary_memory: Tables | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Maps `(B, N, C)`, reading `(B, M, C)`; see `CrossAttention.forward`."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.num_heads, -1))
            for layer, tokens in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        if rotary is not None and rotary_memory is not None:
            query = turn(query, complex_table(rotary))
            key = turn(key, complex_table(rotary_memory))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mixed, attention = attend(self, self.config, query, key, value, output_attentions)
        return self.proj(mixed), attention


def side_by_side(rows: int, head_dim: int) -> Tensor:
    """Returns the order of a product's rows in which channels that turn together are neighbours.

    A head's rows come in four blocks (see `rotary_tables`), of which the first turns with the
    second and the third with the fourth.
    """
    blocks = torch.arange(rows).view(-1, 2, 2, head_dim // 4)
    return blocks.transpose(-1, -2).flatten()


def complex_table(rotary: Tables) -> Tensor:
    """Makes tables `(B, 1, N, head_dim)` one complex table `(B, N, 1, head_dim / 2)`."""
    cosine, sine = (
        table.squeeze(1).unflatten(-1, (2, 2, -1))[..., 0, :].flatten(-2) for table in rotary
    )
    return torch.complex(cosine, sine).unsqueeze(2)


def turn(x: Tensor, table: Tensor) -> Tensor:
    """Turns heads `(B, N, heads, head_dim)` whose turning channels lie side by side, in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)
