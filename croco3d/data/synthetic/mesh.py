"""Triangle meshes with materials: what the furniture parser and the procedural shapes produce.

Object frame: metres, x to the right, y to the back, z up, origin on the floor under the centre of
the bounding box. A piece that stands against a wall has its back at +y.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

MAX_MATERIALS = 16


@dataclass
class Material:
    """Surface of a group of triangles.

    Attributes:
        color: sRGB colour in [0, 1], `(3,)`; multiplies the texture where there is one.
        texture: index into the catalogue's texture list, or -1.
        gloss: strength of the specular highlight in [0, 1].
    """

    color: tuple[float, float, float] = (0.8, 0.8, 0.8)
    texture: int = -1
    gloss: float = 0.0


@dataclass
class Mesh:
    """Indexed triangles; texture coordinates of untextured materials are metres on the surface.

    Attributes:
        positions: `(N, 3)` float32, object frame.
        normals: `(N, 3)` float32, unit length.
        uvs: `(N, 2)` float32.
        material_ids: `(N,)` uint8, index into `materials`.
        triangles: `(M, 3)` uint32.
        materials: at most `MAX_MATERIALS`.
    """

    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    material_ids: np.ndarray
    triangles: np.ndarray
    materials: list[Material] = field(default_factory=lambda: [Material()])

    @cached_property
    def bounds(self) -> np.ndarray:
        """Lowest and highest coordinates, `(2, 3)`; positions must not change after this."""
        return np.stack([self.positions.min(axis=0), self.positions.max(axis=0)])

    @property
    def size(self) -> np.ndarray:
        """Extents of the bounding box in metres, `(3,)`."""
        return self.bounds[1] - self.bounds[0]


def box_uvs(positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Project positions along the dominant axis of their normal.

    Args:
        positions: `(N, 3)` metres.
        normals: `(N, 3)`.

    Returns:
        Texture coordinates in metres, `(N, 2)`.
    """
    axis = np.abs(normals).argmax(axis=1)
    u = np.where(axis == 0, positions[:, 1], positions[:, 0])
    v = np.where(axis == 2, positions[:, 1], positions[:, 2])
    return np.stack([u, v], axis=1).astype(np.float32)


def crease_normals(
    positions: np.ndarray, corners: np.ndarray, cos_crease: float = 0.6
) -> np.ndarray:
    """Corner normals, smooth over gentle edges and flat over creases.

    Args:
        positions: `(P, 3)`.
        corners: vertex indices of the triangles, `(M, 3)`.
        cos_crease: corners whose face deviates more than this from the mean stay flat.

    Returns:
        One normal per corner, `(M, 3, 3)`.
    """
    p = positions[corners]
    face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    mean = np.zeros_like(positions)
    for k in range(3):
        np.add.at(mean, corners[:, k], face)
    face = normalized(face)
    mean = normalized(mean)[corners]
    gentle = np.einsum("mkc,mc->mk", mean, face) > cos_crease
    return np.where(gentle[..., None], mean, face[:, None])


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors `(..., 3)` to unit length; zero vectors become (0, 0, 1)."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0], dtype=vectors.dtype)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), up)


def weld(
    positions: np.ndarray, normals: np.ndarray, uvs: np.ndarray, material_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find equal corners.

    Args:
        positions: `(C, 3)`.
        normals: `(C, 3)`.
        uvs: `(C, 2)`.
        material_ids: `(C,)`.

    Returns:
        Indices of the corners to keep `(N,)`, and for each corner its new index `(C,)`.
    """
    parts = [positions, normals.round(2), uvs, material_ids[:, None]]
    rows = np.ascontiguousarray(np.concatenate(parts, axis=1).astype(np.float32) + 0.0)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, keep, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return keep, inverse.reshape(-1)


def merge(meshes: list[Mesh]) -> Mesh:
    """Join meshes; their material lists are concatenated."""
    vertex_base = np.cumsum([0] + [len(m.positions) for m in meshes])
    material_base = np.cumsum([0] + [len(m.materials) for m in meshes])
    return Mesh(
        np.concatenate([m.positions for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uvs for m in meshes]),
        np.concatenate(
            [m.material_ids + b for m, b in zip(meshes, material_base, strict=False)]
        ).astype(np.uint8),
        np.concatenate([m.triangles + b for m, b in zip(meshes, vertex_base, strict=False)]).astype(
            np.uint32
        ),
        [material for m in meshes for material in m.materials],
    )
