"""The obvious implementation of DUSt3R, to measure against.

Attention is the softmax of a product, positions are turned in every attention, every pair encodes
both its images, linear layers and convolutions are PyTorch's own, all in float32. It reads the
weights of a `Dust3rForStereo`, so that both compute the same function.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from croco3d import Dust3rForStereo
from croco3d.modeling.heads.postprocess import points_and_confidence

ROTARY_BASE = 100.0


def positions_of(images: Tensor, patch: int) -> Tensor:
    """Returns (row, column) of the patches, `(B, N, 2)`."""
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    row, column = (torch.arange(count, device=images.device) for count in (rows, columns))
    grid = torch.cartesian_prod(row, column)
    return grid.expand(images.shape[0], -1, -1)


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """Turns queries or keys `(B, heads, N, D)`: first half by the row, second by the column."""
    halves = []
    for axis, half in enumerate(x.chunk(2, dim=-1)):
        width = half.shape[-1]
        frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, device=x.device) / width)
        angles = positions[:, None, :, axis, None] * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        a, b = half.chunk(2, dim=-1)
        halves.append(half * angles.cos() + torch.cat((-b, a), dim=-1) * angles.sin())
    return torch.cat(halves, dim=-1)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Returns mixed values `(B, N, heads * D)`."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def split(x: Tensor, heads: int) -> Tensor:
    """Cuts `(B, N, C)` into `(B, heads, N, C / heads)`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def self_attention(layer: Any, x: Tensor, positions: Tensor) -> Tensor:
    query, key, value = (split(part, layer.num_heads) for part in layer.qkv(x).chunk(3, dim=-1))
    return layer.proj(attention(turn(query, positions), turn(key, positions), value))


def cross_attention(
    layer: Any, x: Tensor, memory: Tensor, positions: Tensor, others: Tensor
) -> Tensor:
    query, key = split(layer.query(x), layer.num_heads), split(layer.key(memory), layer.num_heads)
    value = split(layer.value(memory), layer.num_heads)
    return layer.proj(attention(turn(query, positions), turn(key, others), value))


def encode(model: Dust3rForStereo, images: Tensor) -> tuple[Tensor, Tensor]:
    encoder: Any = model.encoder
    positions = positions_of(images, encoder.patch_size)
    x = encoder.patch_embed(images)
    for block in encoder.blocks:
        x = x + self_attention(block.attention, block.norm1(x), positions)
        x = x + block.mlp(block.norm2(x))
    return encoder.norm(x), positions


def decode_block(
    block: Any, x: Tensor, memory: Tensor, positions: Tensor, others: Tensor
) -> Tensor:
    x = x + self_attention(block.attention, block.norm1(x), positions)
    memory = block.norm_memory(memory)
    x = x + cross_attention(block.cross_attention, block.norm2(x), memory, positions, others)
    return x + block.mlp(block.norm3(x))


def residual(unit: Any, x: Tensor) -> Tensor:
    return x + unit.conv2(F.relu(unit.conv1(F.relu(x))))


def dpt(head: Any, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """Returns the raw channels `(B, 4, H, W)` of a DPT head."""
    maps = [
        project(reassemble(levels[index].transpose(1, 2).unflatten(2, grid)))
        for index, reassemble, project in zip(
            head.level_indices, head.reassemble, head.project, strict=True
        )
    ]
    x = None
    for fuse, finer in zip(reversed(head.fuse), reversed(maps), strict=True):
        if x is None:
            x = finer
        else:
            x = x[..., : finer.shape[-2], : finer.shape[-1]] + residual(fuse.skip_unit, finer)
        x = F.interpolate(
            residual(fuse.unit, x), scale_factor=2, mode="bilinear", align_corners=True
        )
        x = fuse.out(x)
    assert x is not None
    size = (grid[0] * head.patch_size, grid[1] * head.patch_size)
    x = F.interpolate(head.predict_fine(x), size, mode="bilinear", align_corners=True)
    return head.predict_raw(F.relu(head.predict_full(x)))


def linear(head: Any, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """Returns the raw channels `(B, 4, H, W)` of a linear head."""
    raw = head.proj(levels[-1]).transpose(1, 2).unflatten(2, grid)
    return F.pixel_shuffle(raw, head.patch_size)


def predict(model: Dust3rForStereo, image1: Tensor, image2: Tensor) -> list[Tensor]:
    """Returns both pointmaps `(B, H, W, 3)`, then both confidences `(B, H, W)`."""
    (tokens1, positions1), (tokens2, positions2) = encode(model, image1), encode(model, image2)
    decoder: Any = model.decoder
    x1, x2 = decoder.embed(tokens1), decoder.embed(tokens2)
    levels1, levels2 = [tokens1], [tokens2]
    for block1, block2 in zip(decoder.blocks1, decoder.blocks2, strict=True):
        x1, x2 = (
            decode_block(block1, x1, x2, positions1, positions2),
            decode_block(block2, x2, x1, positions2, positions1),
        )
        levels1.append(x1)
        levels2.append(x2)
    levels1[-1], levels2[-1] = decoder.norm(x1), decoder.norm(x2)
    outputs = []
    heads: Any = (model.head1, model.head2)
    for head, levels, image in zip(heads, (levels1, levels2), (image1, image2), strict=True):
        grid = (image.shape[-2] // head.patch_size, image.shape[-1] // head.patch_size)
        raw = dpt(head, levels, grid) if hasattr(head, "fuse") else linear(head, levels, grid)
        outputs.append(points_and_confidence(raw, head.config))
    return [outputs[0][0], outputs[1][0], outputs[0][1], outputs[1][1]]
