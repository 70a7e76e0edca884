"""Rigid poses as 4x4 matrices, and the angles between them.

Products are written out instead of calling `matmul`: they then keep float32 accuracy under
autocast and where TF32 is switched on.
"""

import torch
from torch import Tensor


def leading_to_points(values: Tensor, event_dims: int, points: Tensor) -> Tensor:
    """Insert ones into the shape of `values`, so that it broadcasts against `points[..., 0]`.

    Args:
        values: `(batch..., event...)` with `event_dims` event dimensions.
        event_dims: number of trailing dimensions that belong to one value.
        points: `(batch..., any..., C)`.

    Returns:
        `(batch..., 1..., event...)`.

    Raises:
        ValueError: `values` has more leading dimensions than `points`.

    >>> leading_to_points(torch.eye(3).expand(5, 3, 3), 2, torch.zeros(5, 4, 6, 3)).shape
    torch.Size([5, 1, 1, 3, 3])
    """
    batch = values.ndim - event_dims
    missing = points.ndim - 1 - batch
    if missing < 0:
        raise ValueError(
            f"Values of shape {tuple(values.shape)} have {batch} leading dimensions, more than "
            f"points of shape {tuple(points.shape)}; expand the points first."
        )
    return values.reshape(values.shape[:batch] + (1,) * missing + values.shape[batch:])


def transform_points(transform: Tensor, points: Tensor) -> Tensor:
    """Apply rigid or similarity transforms to points.

    Args:
        transform: `(..., 4, 4)`, its leading dimensions being the first ones of `points`.
        points: `(..., 3)`, such as `(B, H, W, 3)` with `(B, 4, 4)`.

    Returns:
        `(..., 3)`.

    >>> shift = torch.eye(4)
    >>> shift[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    >>> transform_points(shift, torch.zeros(2, 3))[1].tolist()
    [1.0, 2.0, 3.0]
    """
    transform = leading_to_points(transform, 2, points)
    moved = transform[..., :3, 3]
    for axis in range(3):
        moved = moved + points[..., axis : axis + 1] * transform[..., :3, axis]
    return moved


def compose_poses(outer: Tensor, inner: Tensor) -> Tensor:
    """The transform that applies `inner`, then `outer`; both `(..., 4, 4)`.

    >>> shift = torch.eye(4)
    >>> shift[0, 3] = 1.0
    >>> compose_poses(shift, shift)[0, 3].item()
    2.0
    """
    return (outer[..., :, :, None] * inner[..., None, :, :]).sum(-2)


def invert_pose(pose: Tensor) -> Tensor:
    """The inverse of rigid poses `(..., 4, 4)`: world2cam from cam2world, and back.

    >>> shift = torch.eye(4)
    >>> shift[0, 3] = 1.0
    >>> invert_pose(shift)[0, 3].item()
    -1.0
    """
    rotation = pose[..., :3, :3].mT
    translation = -(rotation * pose[..., None, :3, 3]).sum(-1)
    return pose_from_parts(rotation, translation)


def pose_from_parts(rotation: Tensor, translation: Tensor) -> Tensor:
    """Poses `(..., 4, 4)` from rotations `(..., 3, 3)` and translations `(..., 3)`.

    >>> pose_from_parts(torch.eye(3), torch.ones(3))[:, 3].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    upper = torch.cat((rotation, translation[..., None]), dim=-1)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat((upper, last), dim=-2)


def relative_pose(cam2world1: Tensor, cam2world2: Tensor) -> Tensor:
    """Pose of camera 2 in camera 1's frame, `(..., 4, 4)`: it maps camera 2's points to camera 1.

    >>> pose = torch.eye(4)
    >>> pose[2, 3] = 5.0
    >>> relative_pose(pose, torch.eye(4))[2, 3].item()
    -5.0
    """
    return compose_poses(invert_pose(cam2world1), cam2world2)


def rotation_angle(rotation1: Tensor, rotation2: Tensor) -> Tensor:
    """Angle of the rotation between two rotations `(..., 3, 3)`, in degrees `(...)`.

    Computed as `2 asin(|R1 - R2| / sqrt(8))` (Frobenius norm), which stays accurate near 0 where
    the arc cosine of the trace loses half of its digits.

    >>> turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> round(rotation_angle(turn, torch.eye(3)).item(), 4)
    90.0
    """
    chord = torch.linalg.matrix_norm(rotation1 - rotation2) / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1.0)))


def translation_angle(translation1: Tensor, translation2: Tensor) -> Tensor:
    """Angle between two directions of translation `(..., 3)`, in degrees `(...)`.

    The sign counts: opposite directions are 180 degrees apart. A zero vector has no direction;
    the angle to it is 180 degrees.

    >>> translation_angle(torch.tensor([1.0, 0, 0]), torch.tensor([0, 3.0, 0])).item()
    90.0
    """
    cross = torch.linalg.cross(translation1, translation2, dim=-1)
    sine = torch.linalg.vector_norm(cross, dim=-1)
    cosine = (translation1 * translation2).sum(-1)
    angle = torch.rad2deg(torch.atan2(sine, cosine))
    undefined = (translation1 == 0).all(-1) | (translation2 == 0).all(-1)
    return torch.where(undefined, torch.full_like(angle, 180.0), angle)
