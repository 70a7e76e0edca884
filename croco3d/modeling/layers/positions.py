"""Positions of tokens on the patch grid: rotary, sine-cosine and learned."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Large enough for a token to know its place from the first step on.
LEARNED_POSITIONS_STD = 0.5


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Returns (row, column) of each token in raster order, `(rows * columns, 2)`, long."""
    row = torch.arange(rows, device=device)[:, None].expand(rows, columns)
    column = torch.arange(columns, device=device)[None, :].expand(rows, columns)
    return torch.stack((row, column), dim=-1).reshape(-1, 2)


def rotary_tables(positions: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Returns the cosines and sines that turn a head's channels with its token's position.

    The first half of the channels turns with the row, the second half with the column, each half
    in rotate-half form with frequencies `base ** (-4 i / head_dim)` (RoFormer, arXiv 2104.09864,
    in two dimensions as in CroCo v2, arXiv 2211.10408, section 3.2).

    Args:
        positions: `(B, N, 2)` as (row, column).
        head_dim: channels of one head, a multiple of 4.
        base: base of the geometric series of wavelengths.

    Returns:
        cosine and sine, each `(B, 1, N, head_dim)`, float32.
    """
    quarter = head_dim // 4
    exponents = torch.arange(quarter, device=positions.device, dtype=torch.float32) / quarter
    angles = positions[..., None].float() * base**-exponents  # (B, N, 2, quarter)
    angles = angles.repeat(1, 1, 1, 2).flatten(2).unsqueeze(1)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turns queries or keys `(B, heads, N, head_dim)` by the tables of `rotary_tables`."""
    cosine, sine = (table.to(x.dtype) for table in tables)
    row_a, row_b, column_a, column_b = x.chunk(4, dim=-1)
    turned = torch.cat((-row_b, row_a, -column_b, column_a), dim=-1)
    return torch.addcmul(x * cosine, turned, sine)


class RotaryTurn(nn.Module):
    """`apply_rotary` as a part of an attention layer, so that a faster form can take its place."""

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Turns `(B, heads, N, head_dim)`."""
        return apply_rotary(x, tables)


def sincos_positions(coordinates: Tensor, dim: int) -> Tensor:
    """Returns fixed sine-cosine embeddings (MAE, arXiv 2111.06377, in two dimensions).

    The first half of the channels encodes the column, the second half the row; each half holds
    the sines, then the cosines, of `dim / 4` frequencies.

    Args:
        coordinates: `(..., 2)` as (row, column), whole or fractional.
        dim: channels, a multiple of 4.

    Returns:
        `(..., dim)`, float32.
    """
    quarter = dim // 4
    exponents = torch.arange(quarter, device=coordinates.device, dtype=torch.float32) / quarter
    angles = coordinates.float().flip(-1)[..., None] * 10000.0**-exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class AbsolutePositions(nn.Module):
    """Adds an embedding of each token's place on the grid the model was made for.

    On another grid, coordinates are stretched to that grid, so that the image's borders keep
    their embeddings.

    Args:
        kind: "sincos" (fixed, no parameters) or "learned".
        dim: channels.
        grid: (rows, columns) of the grid the model is made for.
    """

    def __init__(self, kind: str, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.kind, self.dim, self.grid = kind, dim, grid
        if kind == "learned":
            self.table = nn.Parameter(torch.empty(1, dim, *grid))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the learned table anew."""
        if self.kind == "learned":
            nn.init.trunc_normal_(self.table, std=LEARNED_POSITIONS_STD)

    def forward(self, positions: Tensor) -> Tensor:
        """Returns embeddings `(B, N, dim)` of all tokens' positions `(B, N, 2)`."""
        size = torch.tensor(self.grid, device=positions.device, dtype=torch.float32)
        extent = positions.amax(dim=1, keepdim=True) + 1
        unit = (positions + 0.5) / extent
        if self.kind == "sincos":
            return sincos_positions(unit * size - 0.5, self.dim)
        where = unit.flip(-1)[:, :, None] * 2 - 1
        table = self.table.float().expand(positions.shape[0], -1, -1, -1)
        sampled = F.grid_sample(table, where, padding_mode="border", align_corners=False)
        return sampled.squeeze(-1).transpose(1, 2)


def grid_for(image_size: int | tuple[int, int] | list, patch_size: int) -> tuple[int, int]:
    """Returns (rows, columns) of the patch grid of an image of this (height, width)."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return math.ceil(height / patch_size), math.ceil(width / patch_size)
