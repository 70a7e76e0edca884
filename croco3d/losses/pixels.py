"""The loss of cross-view completion (CroCo, arXiv 2210.10716, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from croco3d.losses.base import LossResult, full_precision, masked_mean
from croco3d.modeling.croco.pixels import normalize_patches


@dataclass(frozen=True)
class MaskedPixelLoss:
    """Mean squared error of predicted patches.

    Attributes:
        norm_pix: compare with each true patch normalised by its own mean and (unbiased) variance.
        masked_only: average over hidden patches; else over all.
    """

    norm_pix: bool = True
    masked_only: bool = True

    def __call__(
        self, prediction: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> LossResult:
        """The loss of a batch, its one part named `pixels`.

        Args:
            prediction: pixels of each patch in (row, column, RGB) order, `(B, N, P * P * 3)`.
            target: the true ones, not yet normalised, same shape.
            mask: bool `(B, N)`, true where a patch was hidden; needed for `masked_only`.

        Raises:
            ValueError: shapes that do not fit, or no mask.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"Patches are predicted as {tuple(prediction.shape)}, but the truth is "
                f"{tuple(target.shape)}."
            )
        if self.masked_only and (mask is None or mask.shape != target.shape[:-1]):
            raise ValueError(
                f"The mean over hidden patches needs a mask {tuple(target.shape[:-1])}, got "
                f"{None if mask is None else tuple(mask.shape)}."
            )
        with full_precision(prediction):
            target = target.float()
            if self.norm_pix:
                target = normalize_patches(target)
            error = (prediction.float() - target).square().mean(-1)
            counted = mask if self.masked_only and mask is not None else torch.ones_like(error) > 0
            loss = masked_mean(error, counted.bool())
        return LossResult(loss, {"pixels": loss.detach()})
