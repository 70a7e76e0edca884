"""The pinhole camera of a photograph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FRUSTUM_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


@dataclass(eq=False)
class Camera:
    """A pinhole camera of the photograph as the user has it.

    Attributes:
        intrinsics: `(3, 3)` in ORIGINAL pixels; integer coordinates are pixel centres.
        cam2world: `(4, 4)` pose, OpenCV axes (x right, y down, z forward).
        width: Width of the original photograph in pixels.
        height: Height of the original photograph in pixels.
    """

    intrinsics: Tensor
    cam2world: Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, shape in (("intrinsics", (3, 3)), ("cam2world", (4, 4))):
            if tuple(getattr(self, name).shape) != shape:
                got = tuple(getattr(self, name).shape)
                raise ValueError(f"Camera.{name} must have shape {shape}, got {got}.")
        self.width, self.height = int(self.width), int(self.height)

    @property
    def center(self) -> Tensor:
        """The optical centre in the world frame, `(3,)`."""
        return self.cam2world[:3, 3]

    def corners(self, depth: float) -> Tensor:
        """The frustum's corners in the world frame.

        Args:
            depth: Distance of the image plane from the optical centre.

        Returns:
            `(5, 3)` float64: the optical centre, then the photograph's corners from the top left
            clockwise. `FRUSTUM_EDGES` joins them.
        """
        last, pose = (self.width - 0.5, self.height - 0.5), self.cam2world.double()
        border = [(-0.5, -0.5, 1), (last[0], -0.5, 1), (*last, 1), (-0.5, last[1], 1)]
        rays = torch.linalg.solve(self.intrinsics.double(), torch.tensor(border).double().mT).mT
        local = torch.cat([torch.zeros(1, 3, dtype=torch.float64), rays * depth])
        return local @ pose[:3, :3].mT + pose[:3, 3]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points into the photograph.

        Args:
            points: `(..., 3)` in the world frame.

        Returns:
            Pixels `(..., 2)` as (column, row), original pixels, and depths `(...)` along z.
        """
        pose = self.cam2world.to(points)
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        pixels = local @ self.intrinsics.to(points).mT
        return pixels[..., :2] / pixels[..., 2:], local[..., 2]
