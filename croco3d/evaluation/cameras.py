"""Errors of relative poses and focals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from croco3d.geometry import rotation_angle, translation_angle

MAA_LIMIT = 30


@dataclass(frozen=True)
class PoseError:
    """Errors of relative poses in degrees, each `(...)`.

    Attributes:
        rotation: angle of the rotation between prediction and truth.
        translation: angle between the directions of translation, sign included; NaN where the
            true cameras are in the same place.
    """

    rotation: Tensor
    translation: Tensor


def pose_error(predicted: Tensor, true: Tensor) -> PoseError:
    """Compare relative poses, whatever the predicted translation's length.

    Args:
        predicted: pose of camera 2 in camera 1, `(..., 4, 4)`; NaN for one that was not found,
            which counts as 180 degrees off.
        true: likewise.

    >>> pose_error(torch.eye(4), torch.eye(4)).rotation.item()
    0.0
    """
    rotation = rotation_angle(predicted[..., :3, :3], true[..., :3, :3])
    translation = translation_angle(predicted[..., :3, 3], true[..., :3, 3])
    still = torch.linalg.vector_norm(true[..., :3, 3], dim=-1) < 1e-6
    rotation = rotation.nan_to_num(180.0)
    translation = torch.where(still, torch.nan, translation.nan_to_num(180.0))
    return PoseError(rotation, translation)


@dataclass(frozen=True)
class PoseAccuracy:
    """Shares of pairs whose relative pose is right.

    Attributes:
        rra_5: rotation error under 5 degrees.
        rra_15: rotation error under 15 degrees.
        rta_5: translation direction within 5 degrees.
        rta_15: translation direction within 15 degrees.
        maa_30: the share with both errors under a limit, averaged over limits of 1 to 30 degrees.
    """

    rra_5: float
    rra_15: float
    rta_5: float
    rta_15: float
    maa_30: float


def pose_accuracy(rotation: Tensor, translation: Tensor) -> PoseAccuracy:
    """Summarise the pose errors of many pairs.

    Args:
        rotation: in degrees, `(N,)`.
        translation: in degrees, `(N,)`; NaNs are left out of what concerns translation.

    >>> errors = torch.tensor([1.0, 10.0, 50.0, 90.0])
    >>> pose_accuracy(errors, errors).rra_15
    0.5
    """
    known = ~translation.isnan()
    larger = torch.maximum(rotation, translation)[known]
    limits = torch.arange(1, MAA_LIMIT + 1, device=larger.device)
    return PoseAccuracy(
        rra_5=_share(rotation < 5),
        rra_15=_share(rotation < 15),
        rta_5=_share(translation[known] < 5),
        rta_15=_share(translation[known] < 15),
        maa_30=_share(larger[:, None] < limits),
    )


def _share(hits: Tensor) -> float:
    return float(hits.double().mean()) if hits.numel() else float("nan")


def focal_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Relative error of focals, `(...)`.

    >>> focal_error(torch.tensor([110.0]), torch.tensor([100.0])).tolist()
    [0.10000000149011612]
    """
    return (predicted - true).abs() / true
