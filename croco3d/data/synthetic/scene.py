"""Description of a room: everything the renderer and the camera sampler need, no pixels."""

import hashlib
from dataclasses import dataclass

import numpy as np

from .mesh import Mesh

MATERIAL_WIDTH = 8


@dataclass
class Placed:
    """A piece in the room.

    Attributes:
        piece: index into the catalogue's pieces.
        position: where its origin is, world metres, `(3,)`.
        yaw: rotation about z in radians.
        scale: uniform factor on its size.
        materials: one row per material of its mesh, see `material_row`, `(K, MATERIAL_WIDTH)`.
    """

    piece: int
    position: np.ndarray
    yaw: float
    scale: float
    materials: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """Object frame to world, `(4, 4)`."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        matrix[:3, 3] = self.position
        return matrix


@dataclass
class Light:
    """A point light: world position `(3,)` in metres and linear RGB intensity `(3,)`."""

    position: np.ndarray
    color: np.ndarray


@dataclass
class Sun:
    """Light through a window.

    Attributes:
        direction: unit vector along which the light travels, `(3,)`.
        color: linear RGB, `(3,)`.
        corner: a corner of the opening, `(3,)` metres.
        across: edge of the opening along the wall, `(3,)` metres.
        up: upright edge of the opening, `(3,)` metres.
    """

    direction: np.ndarray
    color: np.ndarray
    corner: np.ndarray
    across: np.ndarray
    up: np.ndarray


@dataclass
class Room:
    """A furnished room. World frame: metres, z up, the floor is z = 0 and centred on the origin.

    Attributes:
        size: width, depth, height, `(3,)` metres.
        structure: walls, floor, ceiling and flat things on them, in the world frame.
        structure_materials: rows for the structure's materials, `(K, MATERIAL_WIDTH)`.
        placed: the pieces.
        boxes: axis-aligned bounds of what cameras must avoid, `(P, 2, 3)`.
        lights: the first casts shadows.
        sun: None where no sunlight enters.
        ambient: linear RGB from above and from below, `(2, 3)`.
    """

    size: np.ndarray
    structure: Mesh
    structure_materials: np.ndarray
    placed: list[Placed]
    boxes: np.ndarray
    lights: list[Light]
    sun: Sun | None
    ambient: np.ndarray

    def fingerprint(self) -> str:
        """Digest of sizes, pieces and poses, rounded to a tenth of a millimetre."""
        numbers = [self.size, self.boxes, np.array([light.position for light in self.lights])]
        for placed in self.placed:
            numbers += [placed.position, np.array([placed.yaw, placed.scale, placed.piece])]
        rounded = np.round(np.concatenate([np.ravel(n) for n in numbers]) * 1e4).astype(np.int64)
        return hashlib.sha256(rounded.tobytes()).hexdigest()


def material_row(
    tint: np.ndarray | tuple[float, float, float],
    layer: int = -1,
    uv_scale: float = 1.0,
    gloss: float = 0.0,
    glow: float = 0.0,
) -> np.ndarray:
    """One row of a material table.

    Args:
        tint: linear RGB that multiplies the texture, or is the colour.
        layer: texture of the catalogue, -1 for none.
        uv_scale: factor on texture coordinates (repeats per metre for plain surfaces).
        gloss: strength of the highlight in [0, 1].
        glow: share of the colour that is emitted.

    Returns:
        `(MATERIAL_WIDTH,)` float32.
    """
    return np.array([*tint, layer, uv_scale, gloss, glow, 0.0], dtype=np.float32)


def to_linear(srgb: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Turn sRGB in [0, 1] into linear light, approximated by squaring as the shaders do."""
    return np.asarray(srgb, dtype=np.float64) ** 2
