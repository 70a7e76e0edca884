"""Reading Wavefront OBJ and MTL text into meshes."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .mesh import (
    MAX_MATERIALS,
    Material,
    Mesh,
    box_uvs,
    crease_normals,
    normalized,
    weld,
)

TRANSPARENT = 0.5


@dataclass
class ObjMaterial:
    """An MTL entry: sRGB colour, opacity in [0, 1], gloss in [0, 1], path of the texture."""

    color: tuple[float, float, float] = (0.8, 0.8, 0.8)
    opacity: float = 1.0
    gloss: float = 0.0
    texture: str | None = None


@dataclass
class _Faces:
    corners: list[tuple[int, int, int]] = field(default_factory=list)
    materials: list[str] = field(default_factory=list)


def parse_mtl(text: str, folder: str) -> dict[str, ObjMaterial]:
    """Read the materials of an MTL file.

    Args:
        text: contents of the file.
        folder: where its texture paths start.

    Returns:
        Materials by name.
    """
    materials: dict[str, ObjMaterial] = {}
    current = ObjMaterial()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        key = words[0].lower()
        if key == "newmtl":
            current = materials[" ".join(words[1:])] = ObjMaterial()
        elif key == "kd" and len(words) >= 4:
            r, g, b = (min(max(float(w), 0.0), 1.0) for w in words[1:4])
            current.color = (r, g, b)
        elif key == "ks" and len(words) >= 4:
            current.gloss = min(max(sum(map(float, words[1:4])) / 3, 0.0), 1.0)
        elif key == "d":
            current.opacity = float(words[-1])
        elif key == "map_kd":
            current.texture = posixpath.normpath(posixpath.join(folder, words[-1]))
    return materials


def parse_obj(
    text: str, materials: dict[str, ObjMaterial], texture_index: Callable[[str], int]
) -> Mesh | None:
    """Read an OBJ file; transparent triangles are left out, since depth shows what is behind.

    Args:
        text: contents of the file; y is up and the front looks along +z.
        materials: what `parse_mtl` gave.
        texture_index: gives the catalogue's index of a texture path, or -1 where unreadable.

    Returns:
        The mesh in the units of the file and the object frame of `mesh`, None where it is empty.
    """
    arrays = [
        _numbers(text, prefix, width) for prefix, width in (("v ", 3), ("vt ", 2), ("vn ", 3))
    ]
    positions, uvs, normals = arrays
    faces = _faces(text, (len(positions), len(uvs), len(normals)))
    names = sorted(set(faces.materials))
    solid = [n for n in names if _material(materials, n).opacity >= TRANSPARENT]
    if not solid:
        return None
    slots = {name: min(i, MAX_MATERIALS - 1) for i, name in enumerate(solid)}
    slot = np.array([slots.get(name, -1) for name in faces.materials])
    corners = np.array(faces.corners, dtype=np.int64).reshape(-1, 3, 3)[slot >= 0]
    slot = slot[slot >= 0]
    described = [_describe(_material(materials, n), texture_index) for n in solid[:MAX_MATERIALS]]
    return _assemble(positions, uvs, normals, corners, slot, described)


def _material(materials: dict[str, ObjMaterial], name: str) -> ObjMaterial:
    return materials.get(name) or ObjMaterial()


def _describe(material: ObjMaterial, texture_index: Callable[[str], int]) -> Material:
    texture = texture_index(material.texture) if material.texture else -1
    color = (1.0, 1.0, 1.0) if texture >= 0 else material.color
    return Material(color, texture, material.gloss)


def _numbers(text: str, prefix: str, width: int) -> np.ndarray:
    lines = [line.split()[1 : width + 1] for line in text.splitlines() if line.startswith(prefix)]
    rows = [row for row in lines if len(row) == width]
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _faces(text: str, counts: tuple[int, int, int]) -> _Faces:
    faces = _Faces()
    material = ""
    for line in text.splitlines():
        if line.startswith("usemtl"):
            material = line[6:].strip()
        elif line.startswith("f "):
            polygon = [_corner(word, counts) for word in line.split()[1:]]
            for second, third in zip(polygon[1:-1], polygon[2:], strict=True):
                faces.corners += [polygon[0], second, third]
                faces.materials.append(material)
    return faces


def _corner(word: str, counts: tuple[int, int, int]) -> tuple[int, int, int]:
    """Zero-based (position, uv, normal) indices, -1 where absent."""
    parts = word.split("/")
    indices = [-1, -1, -1]
    for k, part in enumerate(parts[:3]):
        if part:
            index = int(part)
            indices[k] = index - 1 if index > 0 else counts[k] + index
    return indices[0], indices[1], indices[2]


def _assemble(
    positions: np.ndarray,
    uvs: np.ndarray,
    normals: np.ndarray,
    corners: np.ndarray,
    slot: np.ndarray,
    materials: list[Material],
) -> Mesh:
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up, front +z -> z up, front -y
    positions = positions @ turn.T
    vertex = corners[:, :, 0]
    corner_normals = crease_normals(positions, vertex)
    if len(normals):
        given = corners[:, :, 2] >= 0
        from_file = normalized(normals @ turn.T)[corners[:, :, 2]]
        corner_normals = np.where(given[..., None], from_file, corner_normals)
    p, n = positions[vertex].reshape(-1, 3), corner_normals.reshape(-1, 3)
    ids = np.repeat(slot, 3)
    textured = np.array([m.texture >= 0 for m in materials])[ids]
    has_uv = (corners[:, :, 1] >= 0).reshape(-1)
    uv = np.zeros((len(p), 2))
    if len(uvs):
        uv = uvs[corners[:, :, 1].reshape(-1)]
        uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
    uv = np.where((textured & has_uv)[:, None], uv, box_uvs(p, n))
    keep, index = weld(p, n, uv, ids)
    return Mesh(
        p[keep].astype(np.float32),
        n[keep].astype(np.float32),
        uv[keep].astype(np.float32),
        ids[keep].astype(np.uint8),
        index.reshape(-1, 3).astype(np.uint32),
        materials,
    )
