"""What is known to be true about a batch of image pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from croco3d.geometry import invert_pose, relative_pose, transform_points


@dataclass
class StereoTarget:
    """True geometry of a batch of pairs.

    The first five are what regression needs; supervision of matching also uses the others.

    Attributes:
        pointmap1: `(B, H1, W1, 3)`, in the world frame.
        pointmap2: `(B, H2, W2, 3)`, in the world frame.
        cam2world1: pose of camera 1, `(B, 4, 4)`.
        valid1: where `pointmap1` is known, bool `(B, H1, W1)`; other pixels may hold anything.
        valid2: likewise for `pointmap2`.
        cam2world2: pose of camera 2, `(B, 4, 4)`.
        intrinsics2: `(B, 3, 3)` in pixels of view 2 as it is stored.
        true_shape1: true (height, width) of view 1, `(B, 2)`; where it is portrait and the batch
            stores landscape, the image is stored transposed. `None`: all stored as they are.
        true_shape2: likewise for view 2.
    """

    pointmap1: Tensor
    pointmap2: Tensor
    cam2world1: Tensor
    valid1: Tensor
    valid2: Tensor
    cam2world2: Tensor | None = None
    intrinsics2: Tensor | None = None
    true_shape1: Tensor | None = None
    true_shape2: Tensor | None = None

    @classmethod
    def from_batch(cls, batch: Mapping[str, Any]) -> "StereoTarget":
        """The target within a collated batch of stereo samples."""
        return cls(
            pointmap1=batch["pointmap1"],
            pointmap2=batch["pointmap2"],
            cam2world1=batch["cam2world1"],
            valid1=batch["valid1"],
            valid2=batch["valid2"],
            cam2world2=batch.get("cam2world2"),
            intrinsics2=batch.get("intrinsics2"),
            true_shape1=batch.get("true_shape1"),
            true_shape2=batch.get("true_shape2"),
        )

    def in_camera1(self) -> tuple[Tensor, Tensor]:
        """Both pointmaps in camera 1's frame, float32, zero where they are not known."""
        world2cam = invert_pose(self.cam2world1.float())
        return (
            _masked(transform_points(world2cam, self.pointmap1.float()), self.valid1),
            _masked(transform_points(world2cam, self.pointmap2.float()), self.valid2),
        )

    def camera2_in_camera1(self) -> Tensor | None:
        """Pose of camera 2 in camera 1's frame, `(B, 4, 4)` float32, if it is known."""
        if self.cam2world2 is None:
            return None
        return relative_pose(self.cam2world1.float(), self.cam2world2.float())


def _masked(points: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid[..., None], points, 0.0)
