"""The result of a reconstruction: cameras, pointmaps and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_LISTS = (
    "pointmaps", "depthmaps", "confidences", "images", "names", "pixel_to_original", "masks",
    "paths",
)  # fmt: skip


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


@dataclass(eq=False)
class Scene:
    """Images of one scene in one world frame.

    All lists have one entry an image. Maps have the size `H` x `W` of the network's prediction,
    which may differ between images; `pixel_to_original` takes their pixels to the photograph's.
    Integer pixel coordinates are pixel centres, everywhere.

    Attributes:
        cameras: Intrinsics in original pixels and cam2world poses (OpenCV axes).
        pointmaps: `(H, W, 3)` world coordinates of every pixel.
        depthmaps: `(H, W)` depth along the camera's z axis.
        confidences: `(H, W)`, at least 0; higher is better, comparable between images.
        images: `(H, W, 3)` uint8 RGB, what the network saw. Grey when not given.
        names: A name an image, for files and messages. Numbered when not given.
        pixel_to_original: `(3, 3)` homogeneous matrices from a pixel (column, row, 1) of the maps
            to one of the original photograph; a `(2, 3)` matrix is completed. Identity when not
            given.
        masks: `(H, W)` bool, False where a pixel is not to be used, or None for an image without
            a mask; see `with_masks`.
        metric: Whether the unit of length is the metre.
        paths: The photographs' files, for exporters that copy them; None where there is none.
        info: Whatever the reconstruction has to say about itself; JSON-serialisable.
    """

    cameras: list[Camera]
    pointmaps: list[Tensor]
    depthmaps: list[Tensor]
    confidences: list[Tensor]
    images: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    pixel_to_original: list[Tensor] = field(default_factory=list)
    masks: list[Tensor | None] = field(default_factory=list)
    metric: bool = False
    paths: list[str | None] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.cameras)
        if not count:
            raise ValueError("A scene needs at least one image, got none.")
        sizes = [tuple(p.shape[:2]) for p in self.pointmaps]
        self.images = self.images or [torch.full((*s, 3), 128, dtype=torch.uint8) for s in sizes]
        self.names = self.names or [f"image_{i:03d}" for i in range(count)]
        self.pixel_to_original = [
            _homogeneous(m) for m in self.pixel_to_original or [torch.eye(3)] * count
        ]
        self.masks = self.masks or [None] * count
        self.paths = self.paths or [None] * count
        self._check(sizes)

    def __len__(self) -> int:
        return len(self.cameras)

    def _check(self, sizes: list[tuple[int, ...]]) -> None:
        for name in _LISTS:
            if len(getattr(self, name)) != len(self):
                got = len(getattr(self, name))
                raise ValueError(f"Scene.{name} has {got} entries for {len(self)} cameras.")
        for name, trailing in (("pointmaps", (3,)), ("depthmaps", ()), ("confidences", ()),
                               ("images", (3,)), ("masks", ())):  # fmt: skip
            for index, value in enumerate(getattr(self, name)):
                if value is not None and tuple(value.shape) != (*sizes[index], *trailing):
                    raise ValueError(
                        f"Scene.{name}[{index}] ({self.names[index]}) has shape "
                        f"{tuple(value.shape)}, expected {(*sizes[index], *trailing)}."
                    )

    def network_intrinsics(self, index: int) -> Tensor:
        """Intrinsics `(3, 3)` of image `index` in the pixels of its maps."""
        intrinsics = self.cameras[index].intrinsics
        return torch.linalg.solve(self.pixel_to_original[index].to(intrinsics), intrinsics)


def _homogeneous(matrix: Tensor) -> Tensor:
    """Complete a `(2, 3)` affine map to `(3, 3)`."""
    if tuple(matrix.shape) == (2, 3):
        return torch.cat([matrix, matrix.new_tensor([[0.0, 0.0, 1.0]])])
    if tuple(matrix.shape) != (3, 3):
        raise ValueError(
            f"pixel_to_original needs (3, 3) or (2, 3) matrices, got {tuple(matrix.shape)}."
        )
    return matrix
