"""GLB, the binary form of glTF 2.0, written without a library.

glTF is right-handed with y up. The scene's world has OpenCV axes, so that its up direction is
`Scene.up_axis`, by default -y; the change of axes is baked into the vertices here, once, and no
node carries a transform. For `up_axis="-y"` a world point (x, y, z) becomes (x, -y, -z). Lengths
stay.

Vertex colours of glTF are linear, not sRGB: they are decoded here, or viewers would show them
washed out.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import atomic_path
from ..camera import FRUSTUM_EDGES, Camera
from ..fusion import PointCloud
from ..meshing import Mesh

_POINTS, _TRIANGLES = 0, 4
_FLOAT, _UINT = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963


def world_to_gltf(up_axis: str) -> NDArray[np.float32]:
    """The rotation `(3, 3)` from a world whose up direction is `up_axis` to glTF's, y up."""
    up = np.zeros(3, dtype=np.float32)
    up["xyz".index(up_axis[-1])] = -1.0 if up_axis.startswith("-") else 1.0
    right = np.array([1.0, 0.0, 0.0], dtype=np.float32)
    return np.stack([right, up, np.cross(right, up)])


def srgb_to_linear(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode sRGB `(..., 3)` to linear light in [0, 1] (IEC 61966-2-1)."""
    levels = np.arange(256) / 255.0
    table = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[colors]


def write_glb(
    geometry: PointCloud | Mesh,
    path: str | os.PathLike[str],
    *,
    cameras: Sequence[Camera] = (),
    up_axis: str = "-y",
    frustum_depth: float | None = None,
) -> None:
    """Write a cloud or mesh, and camera frusta, as GLB.

    Args:
        geometry: What to write, world frame.
        path: The `.glb` file.
        cameras: Cameras to draw as coloured frusta.
        up_axis: Which world axis points up.
        frustum_depth: Height of a frustum in scene units; by default a twentieth of the extent of
            geometry and cameras.
    """
    rotation = world_to_gltf(up_axis)
    document = _Document()
    if isinstance(geometry, Mesh):
        document.add("surface", geometry.vertices @ rotation.T, geometry.colors, geometry.faces)
    else:
        document.add("points", geometry.points @ rotation.T, geometry.colors)
    points = geometry.vertices if isinstance(geometry, Mesh) else geometry.points
    depth = frustum_depth or scene_extent(points, cameras) / 20
    for index, camera in enumerate(cameras):
        vertices, faces = frustum(camera, depth)
        color = np.broadcast_to(camera_color(index, len(cameras)), vertices.shape)
        document.add(f"camera_{index}", vertices @ rotation.T, color, faces)
    document.write(path)


class _Document:
    """Collects primitives and writes them as one GLB file."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "croco3d"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "accessors": [],
            "bufferViews": [],
            # Photographs already hold the light of the scene, so viewers must not shade them again.
            "materials": [
                {
                    "doubleSided": True,
                    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
                    "extensions": {"KHR_materials_unlit": {}},
                }
            ],
        }
        self.chunks: list[NDArray] = []
        self.length = 0

    def add(
        self, name: str, points: NDArray, colors: NDArray, faces: NDArray | None = None
    ) -> None:
        """Add a node with points `(M, 3)`, colours `(M, 3)` and perhaps triangles `(F, 3)`."""
        if not len(points):
            return
        points = np.ascontiguousarray(points, dtype="<f4")
        attributes = {
            "POSITION": self._accessor(points, "VEC3", _FLOAT, _ARRAY_BUFFER, bounds=True),
            "COLOR_0": self._accessor(srgb_to_linear(colors), "VEC3", _FLOAT, _ARRAY_BUFFER),
        }
        primitive: dict[str, Any] = {"attributes": attributes, "material": 0, "mode": _POINTS}
        if faces is not None:
            corners = np.ascontiguousarray(faces, dtype="<u4").ravel()
            indices = self._accessor(corners, "SCALAR", _UINT, _ELEMENT_BUFFER)
            primitive |= {"mode": _TRIANGLES, "indices": indices}
        self.tree["scenes"][0]["nodes"].append(len(self.tree["nodes"]))
        self.tree["nodes"].append({"name": name, "mesh": len(self.tree["meshes"])})
        self.tree["meshes"].append({"name": name, "primitives": [primitive]})

    def _accessor(
        self, values: NDArray, kind: str, component: int, target: int, bounds: bool = False
    ) -> int:
        view = {"buffer": 0, "byteOffset": self.length, "byteLength": values.nbytes}
        self.tree["bufferViews"].append(view | {"target": target})
        accessor = {
            "bufferView": len(self.tree["bufferViews"]) - 1,
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.tree["accessors"].append(accessor)
        self.chunks.append(values)
        self.length += values.nbytes
        return len(self.tree["accessors"]) - 1

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file: a header, the JSON chunk, the binary chunk (4-byte aligned already)."""
        if self.length:
            self.tree["buffers"] = [{"byteLength": self.length}]
        text = json.dumps(
            {k: v for k, v in self.tree.items() if v != []}, separators=(",", ":")
        ).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + (8 + self.length if self.length else 0)
        if total >= 2**32:
            raise ValueError(
                f"A GLB file holds at most 4 GiB, this scene needs {total / 2**30:.1f} GiB: "
                "raise voxel_size or min_confidence, or save as .ply."
            )
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, total))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            if self.length:
                file.write(struct.pack("<I4s", self.length, b"BIN\0"))
            for chunk in self.chunks:
                file.write(chunk.data)


def scene_extent(points: NDArray, cameras: Sequence[Camera]) -> float:
    """Size of a scene in its unit: of the central 90 % of points, since outliers lie far away.

    Args:
        points: `(M, 3)`.
        cameras: Their path counts where it is longer.
    """
    sample = points[:: max(1, len(points) // 10_000)]
    spread = np.ptp(np.percentile(sample, [5, 95], axis=0), axis=0).max() if len(sample) else 0.0
    centers = np.stack([c.center.double().cpu().numpy() for c in cameras] or [np.zeros(3)])
    return float(max(spread, np.ptp(centers, axis=0).max())) or 1.0


def camera_color(index: int, count: int) -> NDArray[np.uint8]:
    """A colour `(3,)` uint8 for camera `index` of `count`, from blue over violet to orange."""
    stops = np.array([[31, 119, 255], [178, 64, 220], [255, 127, 14]], dtype=np.float64)
    where = index / max(1, count - 1) * (len(stops) - 1)
    color = [np.interp(where, range(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.rint(color).astype(np.uint8)


def frustum(camera: Camera, depth: float) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """The edges of a camera's frustum as thin bars, which all viewers draw, unlike lines.

    Args:
        camera: The camera.
        depth: Distance of the image plane from the optical centre in scene units.

    Returns:
        Vertices `(64, 3)` in the world frame and triangles `(96, 3)`.
    """
    corners = camera.corners(depth).cpu().numpy()
    bars = [_bar(corners[a], corners[b], depth / 60) for a, b in FRUSTUM_EDGES]
    vertices = np.concatenate([v for v, _ in bars]).astype(np.float32)
    faces = np.concatenate([f + 8 * k for k, (_, f) in enumerate(bars)]).astype(np.uint32)
    return vertices, faces


def _bar(start: NDArray, end: NDArray, thickness: float) -> tuple[NDArray, NDArray]:
    """A square bar between two points: 8 vertices and its 12 triangles, outward facing."""
    along = (end - start) / max(np.linalg.norm(end - start), 1e-12)
    side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    side *= thickness / 2 / np.linalg.norm(side)
    other = np.cross(along, side)
    ring = np.stack([side + other, other - side, -side - other, side - other])
    quads = [(k, (k + 1) % 4, 4 + (k + 1) % 4, 4 + k) for k in range(4)]
    quads += [(3, 2, 1, 0), (4, 5, 6, 7)]
    faces = [(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads]
    return np.concatenate([start + ring, end + ring]), np.array(faces)
