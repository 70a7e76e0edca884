"""Patch targets of masked completion and their loss."""

import torch
from torch import Tensor


def normalize_patches(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Brings each patch `(..., values)` to mean 0 and (unbiased) variance 1.

    MAE (arXiv 2111.06377), section 4.1.
    """
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + eps).sqrt()


def completion_loss(
    prediction: Tensor, target: Tensor, mask: Tensor | None, on_hidden: bool = True
) -> Tensor:
    """Mean squared error over hidden patches (CroCo, arXiv 2210.10716, equation 2).

    Args:
        prediction: `(B, N, values)`.
        target: `(B, N, values)`, already normalised where wanted.
        mask: `(B, N)` bool, true = hidden; `None` if none is.
        on_hidden: whether only hidden patches count; all count where none is hidden.
    """
    error = (prediction.float() - target.float()).square().mean(dim=-1)
    if mask is None or not on_hidden:
        return error.mean()
    weight = torch.where(mask.any(), mask.to(error.dtype), torch.ones_like(error))
    return (error * weight).sum() / weight.sum()


def random_mask(batch: int, num_patches: int, ratio: float, device: torch.device) -> Tensor:
    """Hides the same number of patches in each image, at random: `(B, N)` bool, true = hidden."""
    hidden = int(ratio * num_patches)
    rank = torch.rand(batch, num_patches, device=device).argsort(dim=1).argsort(dim=1)
    return rank < hidden
