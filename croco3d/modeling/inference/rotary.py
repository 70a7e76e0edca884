"""Rotary positions as one complex product.

The rows of the query and key products are permuted, so that the two channels that turn together
lie side by side. Queries and keys are permuted alike: their products stay the same.
"""

import torch
from torch import Tensor, nn


class ComplexTurn(nn.Module):
    """`RotaryTurn` for inference on CPUs, of heads in the order of `side_by_side`."""

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Turns `(B, heads, N, head_dim)`, in float32."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * complex_table(tables)).flatten(-2).to(x.dtype)


def side_by_side(rows: int, head_dim: int) -> Tensor:
    """Returns the order of a product's rows in which channels that turn together are neighbours.

    A head's rows come in four blocks (see `rotary_tables`), of which the first turns with the
    second and the third with the fourth.
    """
    blocks = torch.arange(rows).view(-1, 2, 2, head_dim // 4)
    return blocks.transpose(-1, -2).flatten()


def complex_table(rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Makes tables `(B, 1, N, head_dim)` one complex table `(B, 1, N, head_dim / 2)`."""
    cosine, sine = (table.unflatten(-1, (2, 2, -1))[..., 0, :].flatten(-2) for table in rotary)
    return torch.complex(cosine, sine)
