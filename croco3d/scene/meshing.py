"""Surfaces from a scene: a grid a view, or Open3D's fusion and Poisson reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .fusion import fuse, pixel_footprint, valid_masks

if TYPE_CHECKING:
    from .scene import Scene

MeshMethod = Literal["grid", "splats", "tsdf", "poisson"]


@dataclass(eq=False)
class Mesh:
    """A coloured triangle mesh in the world frame.

    Attributes:
        vertices: `(M, 3)` float32.
        faces: `(F, 3)` uint32 indices of vertices, counter-clockwise seen from outside.
        colors: `(M, 3)` uint8 sRGB.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]
    colors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.faces)


def build_mesh(
    scene: Scene,
    *,
    method: MeshMethod = "grid",
    min_confidence: float = 0.0,
    voxel_size: float | None = None,
) -> Mesh:
    """Make a surface of the scene.

    Args:
        scene: The scene.
        method: "grid" joins the neighbouring pixels of each image, keeping every pixel and the
            overlap of images; "splats" makes a square of every pixel, which shows as points do but
            has a size; "tsdf" fuses the depth maps in a grid of voxels; "poisson" fits one closed
            surface to the fused cloud. The last two need Open3D.
        min_confidence: Percentile of confidence, see `Scene.mask`.
        voxel_size: Resolution of "tsdf" and "poisson" in scene units; by default twice the median
            width of a pixel.

    Returns:
        The mesh, world frame.

    Raises:
        ValueError: If the method is unknown.
        ImportError: If Open3D is needed and not installed.
    """
    masks = valid_masks(scene, min_confidence, remove_edges=True)
    if method == "grid":
        return _grid_mesh(scene, masks)
    if method == "splats":
        return _splat_mesh(scene, masks)
    voxel_size = voxel_size or 2 * pixel_footprint(scene, masks)
    if method == "tsdf":
        return _tsdf_mesh(scene, masks, voxel_size)
    if method == "poisson":
        return _poisson_mesh(scene, min_confidence, voxel_size)
    raise ValueError(
        f"Unknown mesh method {method!r}; choose 'grid', 'splats', 'tsdf' or 'poisson'."
    )


def _grid_mesh(scene: Scene, masks: list[Tensor]) -> Mesh:
    parts, start = [], 0
    for index, mask in enumerate(masks):
        faces, used = _grid_faces(mask)
        parts.append((scene.pointmaps[index][used], faces + start, scene.images[index][used]))
        start += int(used.sum())
    points, triangles, colors = (
        torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)
    )
    return Mesh(points.astype(np.float32), triangles.astype(np.uint32), colors)


def _splat_mesh(scene: Scene, masks: list[Tensor]) -> Mesh:
    """A square a pixel, as wide as the pixel is at its depth, facing its camera."""
    # Top left, bottom left, top right, bottom right, in halves of the camera's x and y axes.
    corners = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    triangles = torch.tensor([[0, 1, 2], [2, 1, 3]])
    points, colors = [], []
    for index, mask in enumerate(masks):
        axes = scene.cameras[index].cam2world[:3, :2].float().T
        width = scene.depthmaps[index][mask].float() / scene.network_intrinsics(index)[0, 0].float()
        offsets = width[:, None, None] * (corners @ axes)
        points.append((scene.pointmaps[index][mask].float()[:, None] + offsets).flatten(0, 1))
        colors.append(scene.images[index][mask].repeat_interleave(4, 0))
    vertices = torch.cat(points).numpy()
    faces = 4 * torch.arange(len(vertices) // 4)[:, None, None] + triangles
    return Mesh(vertices, faces.flatten(0, 1).numpy().astype(np.uint32), torch.cat(colors).numpy())


def _grid_faces(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Triangles `(F, 3)` over the pixels of a mask, and the mask of pixels they use.

    Rows of the image run down and columns right, so (top left, bottom left, top right) turns
    counter-clockwise seen from the camera.
    """
    corners = torch.stack([mask[:-1, :-1], mask[1:, :-1], mask[:-1, 1:], mask[1:, 1:]])
    whole = corners.all(0)
    used = torch.zeros_like(mask)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            used[rows, columns] |= whole
    number = (used.flatten().cumsum(0) - 1).view(mask.shape)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    upper, lower = torch.stack([a, b, c], -1)[whole], torch.stack([c, b, d], -1)[whole]
    return torch.cat([upper, lower]), used


def _open3d() -> Any:
    try:
        return import_module("open3d")
    except ImportError as error:
        raise ImportError(
            f'This mesh method needs Open3D: pip install "croco3d[mesh]" ({error}).'
        ) from error


def _tsdf_mesh(scene: Scene, masks: list[Tensor], voxel_size: float) -> Mesh:
    o3d = _open3d()
    real, image = o3d.core.float32, o3d.t.geometry.Image
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (real,) * 3, ((1,), (1,), (3,)),
        voxel_size=voxel_size, block_resolution=8, block_count=10_000,
    )  # fmt: skip
    for index, mask in enumerate(masks):
        intrinsics = scene.network_intrinsics(index).double().numpy()
        # Open3D takes the pixel below a projection's coordinates, so its centres lie at +0.5.
        intrinsics[:2, 2] += 0.5
        world2cam = np.linalg.inv(scene.cameras[index].cam2world.double().numpy())
        camera, pose = o3d.core.Tensor(intrinsics), o3d.core.Tensor(world2cam)
        depth = torch.where(mask, scene.depthmaps[index].float(), 0.0).contiguous().numpy()
        color = (scene.images[index].float() / 255).contiguous().numpy()
        # One unit a unit of depth, everything up to the farthest, truncated at four voxels.
        limits = (1.0, float(depth.max()) + voxel_size, 4.0)
        depth, color = image(o3d.core.Tensor(depth)), image(o3d.core.Tensor(color))
        blocks = grid.compute_unique_block_coordinates(depth, camera, pose, *limits)
        grid.integrate(blocks, depth, color, camera, camera, pose, *limits)
    return _from_open3d(grid.extract_triangle_mesh(0.5).to_legacy())


def _poisson_mesh(scene: Scene, min_confidence: float, voxel_size: float) -> Mesh:
    o3d = _open3d()
    fused = fuse(scene, voxel_size=voxel_size, min_confidence=min_confidence)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(fused.points.astype(np.float64)))
    cloud.colors = o3d.utility.Vector3dVector(fused.colors / 255.0)
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(24))
    _face_cameras(scene, cloud)
    extent = float(np.ptp(fused.points, axis=0).max())
    depth = int(np.clip(np.ceil(np.log2(extent / voxel_size)), 5, 11))
    mesh, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=depth)
    # The surface also closes regions without points; those have the fewest samples.
    mesh.remove_vertices_by_mask(np.asarray(density) < np.quantile(density, 0.05))
    return _from_open3d(mesh)


def _face_cameras(scene: Scene, cloud: Any) -> None:
    """Turn each normal towards the nearest camera."""
    centers = np.stack([c.center.double().numpy() for c in scene.cameras])
    points, normals = np.asarray(cloud.points), np.asarray(cloud.normals)
    towards = np.empty_like(points)
    best = np.full(len(points), np.inf)
    for center in centers:
        rays = center - points
        closer = (distance := np.linalg.norm(rays, axis=1)) < best
        towards[closer], best[closer] = rays[closer], distance[closer]
    normals[(normals * towards).sum(1) < 0] *= -1


def _from_open3d(mesh: Any) -> Mesh:
    return Mesh(
        np.asarray(mesh.vertices, dtype=np.float32),
        np.asarray(mesh.triangles, dtype=np.uint32),
        np.rint(np.asarray(mesh.vertex_colors) * 255).astype(np.uint8),
    )
