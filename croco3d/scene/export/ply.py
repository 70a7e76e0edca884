"""Binary PLY: clouds, meshes, and initial Gaussians."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from ...files import atomic_path
from ..fusion import PointCloud
from ..meshing import Mesh

_TYPES = {"f4": "float", "u1": "uchar", "i4": "int", "u4": "uint"}


def write_ply(geometry: PointCloud | Mesh, path: str | os.PathLike[str]) -> None:
    """Write a cloud or mesh with colours as binary little-endian PLY, world frame as it is.

    Args:
        geometry: What to write.
        path: The `.ply` file.
    """
    is_mesh = isinstance(geometry, Mesh)
    points = geometry.vertices if is_mesh else geometry.points
    vertices = np.empty(
        len(points),
        [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")],
    )
    for column, axis in enumerate("xyz"):
        vertices[axis] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = geometry.colors[:, column]
    write_vertices(vertices, path, faces=geometry.faces if is_mesh else None)


def write_vertices(
    vertices: NDArray, path: str | os.PathLike[str], faces: NDArray | None = None
) -> None:
    """Write a structured array as the vertices of a binary PLY file.

    Args:
        vertices: `(M,)` structured, little-endian; field names become properties.
        path: The `.ply` file.
        faces: `(F, 3)` triangles, or None for a cloud.
    """
    header = ["ply", "format binary_little_endian 1.0", "comment croco3d, OpenCV axes"]
    header.append(f"element vertex {len(vertices)}")
    for name in vertices.dtype.names or ():
        header.append(f"property {_TYPES[vertices.dtype[name].str[1:]]} {name}")
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode("ascii"))
        file.write(vertices.data)
        if faces is not None:
            rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", (3,))])
            rows["count"], rows["corners"] = 3, faces
            file.write(rows.data)
