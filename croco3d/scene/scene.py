"""The result of a reconstruction: cameras, pointmaps and what belongs to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .camera import Camera as Camera
from .fusion import PointCloud, VoxelSize, fuse, valid_masks
from .meshing import Mesh, MeshMethod, build_mesh
from .orientation import estimate_up, rotation_between
from .tracks import Matches, find_matches

_LISTS = (
    "pointmaps", "depthmaps", "confidences", "images", "names", "pixel_to_original", "masks",
    "paths",
)  # fmt: skip


_UP_AXES = {
    "-y": (0.0, -1.0, 0.0),
    "y": (0.0, 1.0, 0.0),
    "z": (0.0, 0.0, 1.0),
    "-z": (0.0, 0.0, -1.0),
}
_FILES = (".glb", ".ply", ".npz")


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
        up_axis: The world axis that points up, "-y" (as in a level camera's frame), "y", "z" or
            "-z"; see `oriented`.
        paths: The photographs' files, for exporters that copy them, `clip.mp4#frame=20` for a
            frame of a video; None where there is none.
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
    up_axis: str = "-y"
    paths: list[str | None] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.cameras)
        if not count:
            raise ValueError("A scene needs at least one image, got none.")
        if self.up_axis not in _UP_AXES:
            raise ValueError(f"up_axis must be one of {', '.join(_UP_AXES)}, got {self.up_axis!r}.")
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

    def mask(self, min_confidence: float = 0.0, remove_edges: bool = False) -> list[Tensor]:
        """Tell which pixels to trust.

        Args:
            min_confidence: Percentile, 0 to 100, over all usable pixels of the scene; pixels of
                lower confidence are left out.
            remove_edges: Leave out flying pixels at depth edges too.

        Returns:
            One `(H, W)` bool mask an image.

        Raises:
            ValueError: If `min_confidence` is not a percentile.
        """
        return valid_masks(self, min_confidence, remove_edges)

    def with_masks(self, masks: Sequence[Tensor | None]) -> Scene:
        """The scene with a user's masks, which every export and `mask` respect.

        Args:
            masks: One an image, True where a pixel is to be used: `(height, width)` of the
                photograph, or `(H, W)` of its maps; None uses all pixels.

        Returns:
            A scene that shares everything else.

        Raises:
            ValueError: If the number of masks or a mask's size does not fit.
        """
        if len(masks) != len(self):
            raise ValueError(f"Got {len(masks)} masks for {len(self)} images.")
        fitted = [m if m is None else self._fit_mask(i, m) for i, m in enumerate(masks)]
        return replace(self, masks=fitted)

    def _fit_mask(self, index: int, mask: Tensor) -> Tensor:
        camera, size = self.cameras[index], tuple(self.depthmaps[index].shape)
        if tuple(mask.shape) == (camera.height, camera.width):
            rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
            ones = torch.ones(size, dtype=torch.float64)
            pixels = (
                torch.stack([columns, rows, ones], -1) @ self.pixel_to_original[index].double().mT
            )
            u = (pixels[..., 0] / pixels[..., 2]).round().long().clamp(0, camera.width - 1)
            v = (pixels[..., 1] / pixels[..., 2]).round().long().clamp(0, camera.height - 1)
            return mask[v, u] > 0
        if tuple(mask.shape) == size:
            return mask > 0
        raise ValueError(
            f"The mask of {self.names[index]} is {tuple(mask.shape)}; it must be "
            f"{(camera.height, camera.width)} like the photograph, or {size} like its maps."
        )

    def fuse(
        self,
        *,
        voxel_size: VoxelSize = "auto",
        min_confidence: float = 0.0,
        remove_edges: bool = True,
    ) -> PointCloud:
        """Fuse all images into one voxel-filtered cloud; see `croco3d.scene.fuse`."""
        return fuse(self, voxel_size=voxel_size, min_confidence=min_confidence,
                    remove_edges=remove_edges)  # fmt: skip

    def mesh(
        self,
        *,
        method: MeshMethod = "grid",
        min_confidence: float = 0.0,
        voxel_size: float | None = None,
    ) -> Mesh:
        """Make a surface of the scene; see `croco3d.scene.build_mesh`."""
        return build_mesh(self, method=method, min_confidence=min_confidence, voxel_size=voxel_size)

    def matches(
        self,
        first: int,
        second: int,
        *,
        min_confidence: float = 0.0,
        max_distance: float | None = 0.02,
    ) -> Matches:
        """Reciprocal matches of two images in original pixels; see `croco3d.scene.find_matches`."""
        return find_matches(
            self, first, second, min_confidence=min_confidence, max_distance=max_distance
        )

    def transformed(self, matrix: Tensor) -> Scene:
        """The scene in another world frame.

        Args:
            matrix: `(4, 4)` similarity, old world to new world. Where its scale is not 1, the new
                unit is no longer known to be the metre.

        Returns:
            A new scene.

        Raises:
            ValueError: If the matrix is not a rotation with a uniform positive scale and a shift.
        """
        matrix = torch.as_tensor(matrix).double()
        linear = matrix[:3, :3]
        scale = float(torch.det(linear).clamp(min=0) ** (1 / 3))
        if scale == 0 or not torch.allclose(
            linear @ linear.mT, scale**2 * torch.eye(3).double(), atol=1e-4 * scale**2
        ):
            raise ValueError(
                f"Not a similarity (rotation, positive scale, shift): {matrix.tolist()}."
            )
        cameras = []
        for camera in self.cameras:
            pose = matrix @ camera.cam2world.double()
            pose[:3, :3] /= scale
            cameras.append(replace(camera, cam2world=pose.to(camera.cam2world)))
        points = [(p.double() @ linear.mT + matrix[:3, 3]).to(p) for p in self.pointmaps]
        return replace(
            self,
            cameras=cameras,
            pointmaps=points,
            depthmaps=[d * scale for d in self.depthmaps],
            metric=self.metric and abs(scale - 1) < 1e-6,
        )

    def rescaled(self, factor: float, metric: bool = False) -> Scene:
        """The scene with all lengths times `factor`; `metric` says that they are metres now.

        Raises:
            ValueError: If the factor is not positive.
        """
        if not factor > 0:
            raise ValueError(f"A scene can only be rescaled by a positive factor, got {factor}.")
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3] *= factor
        return replace(self.transformed(matrix), metric=metric)

    def centered(self) -> Scene:
        """The scene shifted so that the median of its trusted points is the origin."""
        points = torch.cat([p[m] for p, m in zip(self.pointmaps, self.mask(), strict=True)])
        matrix = torch.eye(4, dtype=torch.float64)
        if len(points):
            matrix[:3, 3] = -points.double().median(dim=0).values
        return self.transformed(matrix)

    def oriented(self, up_axis: str = "-y", up: Tensor | None = None) -> Scene:
        """The scene turned about the origin so that up is along an axis.

        Args:
            up_axis: The axis that shall point up: "-y", "y", "z" or "-z".
            up: The direction `(3,)` that is up in the present world. By default it is estimated
                from the cameras: photographers keep the horizon level, so up is the direction most
                at right angles to all cameras' x axes; where those are parallel, cameras' mean up.

        Returns:
            A new scene with this `up_axis`.

        Raises:
            ValueError: If the axis is unknown, or `up` has no length.
        """
        if up_axis not in _UP_AXES:
            raise ValueError(f"up_axis must be one of {', '.join(_UP_AXES)}, got {up_axis!r}.")
        poses = torch.stack([c.cam2world.double() for c in self.cameras])
        direction = estimate_up(poses) if up is None else torch.as_tensor(up).double()
        if not direction.norm() > 0:
            raise ValueError(f"The up direction has no length: {direction.tolist()}.")
        matrix = torch.eye(4, dtype=torch.float64)
        target = torch.tensor(_UP_AXES[up_axis], dtype=torch.float64)
        matrix[:3, :3] = rotation_between(direction / direction.norm(), target)
        return replace(self.transformed(matrix), up_axis=up_axis)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        mesh: bool | MeshMethod = False,
        min_confidence: float = 0.0,
        voxel_size: VoxelSize = None,
        remove_edges: bool = False,
        show_cameras: bool = True,
    ) -> None:
        """Write the scene to one file, the kind chosen by the suffix.

        `.glb` is for looking (y up, camera frusta), `.ply` for points in the world frame as it is,
        `.npz` keeps everything, for `Scene.load`; the options do not apply to it. The file appears
        only when it is whole.

        Args:
            path: The file.
            mesh: Write a surface instead of points; True means "grid", see `mesh`.
            min_confidence: Percentile of confidence, see `mask`.
            voxel_size: Average points in cubes of this size, "auto" for a pixel's width; None
                keeps every pixel.
            remove_edges: Leave out flying pixels at depth edges (surfaces always do).
            show_cameras: Draw camera frusta (GLB).

        Raises:
            ValueError: If the suffix is unknown.
        """
        from .export import write_glb, write_npz, write_ply

        suffix = Path(path).suffix.lower()
        if suffix not in _FILES:
            raise ValueError(
                f"Cannot tell the file type of {os.fspath(path)!r}: end it with "
                f"{', '.join(_FILES)}, or use save_colmap, save_nerfstudio or save_gaussians."
            )
        if suffix == ".npz":
            return write_npz(self, path)
        if mesh:
            method: MeshMethod = "grid" if mesh is True else mesh
            size = None if voxel_size == "auto" else voxel_size
            shape = self.mesh(method=method, min_confidence=min_confidence, voxel_size=size)
        else:
            shape = fuse(self, voxel_size=voxel_size, min_confidence=min_confidence,
                         remove_edges=remove_edges)  # fmt: skip
        if suffix == ".ply":
            return write_ply(shape, path)
        cameras = self.cameras if show_cameras else ()
        write_glb(shape, path, cameras=cameras, up_axis=self.up_axis)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scene:
        """Read a scene saved as `.npz`; see `croco3d.scene.export.read_npz`."""
        from .export import read_npz

        return read_npz(path)

    def save_colmap(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write a COLMAP project; options as in `croco3d.scene.export.write_colmap`."""
        from .export import write_colmap

        write_colmap(self, folder, **options)

    def save_nerfstudio(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write a nerfstudio project; options as in `croco3d.scene.export.write_nerfstudio`."""
        from .export import write_nerfstudio

        write_nerfstudio(self, folder, **options)

    def save_gaussians(
        self,
        path: str | os.PathLike[str],
        *,
        voxel_size: VoxelSize = "auto",
        min_confidence: float = 0.0,
    ) -> None:
        """Write initial Gaussians as PLY; see `croco3d.scene.export.write_gaussians`."""
        from .export import write_gaussians

        write_gaussians(fuse(self, voxel_size=voxel_size, min_confidence=min_confidence), path)

    def save_tum(
        self, path: str | os.PathLike[str], timestamps: Sequence[float] | None = None
    ) -> None:
        """Write the trajectory in TUM format; see `croco3d.scene.export.write_tum`."""
        from .export import write_tum

        write_tum(self, path, timestamps)

    def save_rerun(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write a Rerun recording; options as in `croco3d.viewer.write_rerun`."""
        from ..viewer import write_rerun

        write_rerun(self, path, **options)


def _homogeneous(matrix: Tensor) -> Tensor:
    """Complete a `(2, 3)` affine map to `(3, 3)`."""
    if tuple(matrix.shape) == (2, 3):
        return torch.cat([matrix, matrix.new_tensor([[0.0, 0.0, 1.0]])])
    if tuple(matrix.shape) != (3, 3):
        raise ValueError(
            f"pixel_to_original needs (3, 3) or (2, 3) matrices, got {tuple(matrix.shape)}."
        )
    return matrix
