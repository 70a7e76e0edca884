"""Walls, floor and ceiling, with doors, windows, pictures, skirting and rugs on them."""

from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue
from .mesh import Material, Mesh, merge
from .scene import material_row
from .shapes import box


@dataclass
class Opening:
    """A window: a corner and its two edges in world metres, `(3,)` each, and the inward normal."""

    corner: np.ndarray
    across: np.ndarray
    up: np.ndarray
    inward: np.ndarray


@dataclass
class _Builder:
    rng: np.random.Generator
    catalogue: Catalogue
    size: np.ndarray
    parts: list[Mesh]
    rows: list[np.ndarray]

    def surface(self, low: float, high: float) -> np.ndarray:
        """A random covering that repeats between `low` and `high` times a metre."""
        scale = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        tint = np.clip(self.rng.uniform(0.55, 1.0) + self.rng.normal(0, 0.08, 3), 0.2, 1.0)
        layer = int(self.rng.choice(self.catalogue.surfaces))
        return material_row(tint, layer, scale, 0.3 * (self.rng.random() < 0.15))

    def paint(self, bright: bool = False) -> np.ndarray:
        """A plain colour; walls and ceilings are usually bright."""
        base = self.rng.uniform(0.45, 0.9) if bright else self.rng.uniform(0.03, 0.8)
        tint = np.clip(base * (1 + self.rng.normal(0, 0.12, 3)), 0.02, 0.95)
        return material_row(tint)

    def add(self, mesh: Mesh, row: np.ndarray) -> None:
        self.parts.append(mesh)
        self.rows.append(row)


def build_structure(
    rng: np.random.Generator, catalogue: Catalogue, size: np.ndarray
) -> tuple[Mesh, np.ndarray, list[Opening], list[np.ndarray]]:
    """Build the shell of a room.

    Args:
        rng: the only source of randomness.
        catalogue: whose surfaces cover it.
        size: width, depth, height in metres, `(3,)`.

    Returns:
        World-frame mesh, its material rows `(K, MATERIAL_WIDTH)`, windows, and the boxes
        `(2, 3)` of solid parts that furniture must avoid.
    """
    builder = _Builder(rng, catalogue, size, [], [])
    _shell(builder)
    solids = _column(builder) if rng.random() < 0.25 else []
    openings: list[Opening] = []
    for wall in rng.permutation(4):
        openings += _decorate_wall(builder, int(wall))
    if rng.random() < 0.6:
        _rug(builder)
    merged = merge(builder.parts)
    return merged, np.stack(builder.rows), openings, solids


def quad(
    corner: np.ndarray, across: np.ndarray, up: np.ndarray, uv_size: tuple[float, float]
) -> Mesh:
    """A rectangle whose texture coordinates run from (0, uv_size[1]) at `corner`, v downwards."""
    positions = np.array([corner, corner + across, corner + across + up, corner + up])
    normal = np.cross(across, up)
    u, v = uv_size
    return Mesh(
        positions.astype(np.float32),
        np.tile(normal / np.linalg.norm(normal), (4, 1)).astype(np.float32),
        np.array([[0, v], [u, v], [u, 0], [0, 0]], np.float32),
        np.zeros(4, np.uint8),
        np.array([[0, 1, 2], [0, 2, 3]], np.uint32),
        [Material()],
    )


def _wall_frame(size: np.ndarray, wall: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower left corner seen from inside, direction along the wall `(3,)`, inward normal."""
    w, d = size[0] / 2, size[1] / 2
    corners = [(-w, d), (w, d), (w, -d), (-w, -d)]
    along = [(1, 0), (0, -1), (-1, 0), (0, 1)]
    direction = np.array([*along[wall], 0.0])
    inward = np.cross(np.array([0, 0, 1.0]), direction) * -1
    return np.array([*corners[wall], 0.0]), direction, inward


def _length(size: np.ndarray, wall: int) -> float:
    return float(size[0] if wall % 2 == 0 else size[1])


def _shell(b: _Builder) -> None:
    w, d, h = b.size
    x, y, up = np.array([w, 0, 0]), np.array([0, d, 0]), np.array([0, 0, h])
    low = np.array([-w / 2, -d / 2, 0])
    b.add(quad(low, x, y, (w, d)), b.surface(0.3, 1.2))
    plain = b.rng.random() < 0.7
    ceiling = b.paint(bright=True) if plain else b.surface(0.3, 1.5)
    b.add(quad(low + up, x, y, (w, d)), ceiling)
    common = b.paint(bright=True) if b.rng.random() < 0.25 else b.surface(0.25, 1.5)
    for wall in range(4):
        corner, along, _ = _wall_frame(b.size, wall)
        length = _length(b.size, wall)
        row = common
        if b.rng.random() < 0.35:
            row = b.paint(bright=True) if b.rng.random() < 0.4 else b.surface(0.25, 1.5)
        b.add(quad(corner, along * length, up, (length, h)), row)
    if b.rng.random() < 0.7:
        _skirting(b)


def _skirting(b: _Builder) -> None:
    height, row = float(b.rng.uniform(0.05, 0.15)), b.paint(bright=b.rng.random() < 0.6)
    w, d = float(b.size[0]), float(b.size[1])
    parts = [box((w, 0.02, height), (0, s * (d / 2 - 0.01), 0)) for s in (-1, 1)]
    parts += [box((0.02, d, height), (s * (w / 2 - 0.01), 0, 0)) for s in (-1, 1)]
    skirting = merge(parts)
    skirting.material_ids[:] = 0
    skirting.materials = [Material()]
    b.add(skirting, row)


def _column(b: _Builder) -> list[np.ndarray]:
    """A pillar in a corner or in the room, or a protruding part of a wall."""
    w, d = b.rng.uniform(0.25, 1.4, 2)
    h = float(b.size[2])
    free = b.size[:2] / 2 - [w / 2, d / 2]
    spot = b.rng.uniform(-free, free)
    if b.rng.random() < 0.75:
        axis = int(b.rng.integers(0, 2))
        spot[axis] = np.sign(spot[axis]) * free[axis]
    b.add(box((w, d, h), (spot[0], spot[1], 0.0)), b.surface(0.3, 1.5))
    half = np.array([w / 2, d / 2])
    return [np.array([[*(spot - half), 0.0], [*(spot + half), h]])]


def _decorate_wall(b: _Builder, wall: int) -> list[Opening]:
    """Fill slots along a wall with windows, doors and pictures."""
    corner, along, inward = _wall_frame(b.size, wall)
    length, openings = _length(b.size, wall), []
    position = float(b.rng.uniform(0.1, 0.6))
    while position < length - 0.5 and len(b.rows) < 26:
        kind = b.rng.choice(4, p=[0.2, 0.12, 0.45, 0.23])
        width = float([b.rng.uniform(0.7, 1.8), 0.9, b.rng.uniform(0.3, 1.3), 0.6][kind])
        width = min(width, length - position - 0.1)
        start = corner + along * position + inward * 0.004
        if kind == 0 and len(openings) < 1:
            openings.append(_window(b, start, along * width, inward))
        elif kind == 1 and width > 0.7:
            _panel(b, start, along * width, 0.0, float(b.rng.uniform(1.9, 2.1)), inward, door=True)
        elif kind == 2:
            height = width * float(b.rng.uniform(0.6, 1.5))
            low = float(b.rng.uniform(0.8, 1.6))
            height = min(height, float(b.size[2]) - low - 0.1)
            _panel(b, start, along * width, low, height, inward, door=False)
        position += width + float(b.rng.uniform(0.1, 1.0))
    return openings


def _window(b: _Builder, start: np.ndarray, across: np.ndarray, inward: np.ndarray) -> Opening:
    low = float(b.rng.uniform(0.4, 1.1))
    up = np.array([0, 0, min(b.rng.uniform(0.8, 1.6), float(b.size[2]) - low - 0.15)])
    corner = start + [0, 0, low]
    layer = int(b.rng.choice(b.catalogue.surfaces))
    glow = float(b.rng.uniform(0.5, 3.0))
    row = material_row(np.full(3, 0.9), layer, 1.0, 0.0, glow)
    b.add(quad(corner, across, up, (1.0, 1.0)), row)
    _frame(b, corner, across, up, inward, bars=int(b.rng.integers(0, 3)))
    return Opening(corner, across, up, inward)


def _panel(
    b: _Builder,
    start: np.ndarray,
    across: np.ndarray,
    low: float,
    height: float,
    inward: np.ndarray,
    door: bool,
) -> None:
    """A picture, poster or door; pictures show one texture once."""
    corner, up = start + [0, 0, low], np.array([0, 0, height])
    layer = int(b.rng.choice(b.catalogue.surfaces))
    tint = np.clip(b.rng.uniform(0.6, 1.0) + b.rng.normal(0, 0.06, 3), 0.2, 1)
    crop = float(b.rng.uniform(0.5, 1.2))
    b.add(quad(corner, across, up, (crop, crop)), material_row(tint, layer, 1.0))
    if door or b.rng.random() < 0.7:
        _frame(b, corner, across, up, inward, bars=0)


def _frame(
    b: _Builder,
    corner: np.ndarray,
    across: np.ndarray,
    up: np.ndarray,
    inward: np.ndarray,
    bars: int,
) -> None:
    """Four strips around a rectangle, and upright bars inside it."""
    thick, deep = float(b.rng.uniform(0.02, 0.07)), float(b.rng.uniform(0.015, 0.06))
    width, height = float(np.linalg.norm(across)), float(up[2])
    along = across / width
    strips = [(0.0, 0.0, width, thick), (0.0, height - thick, width, thick)]
    uprights = [0.0, width - thick] + [width * (i + 1) / (bars + 1) for i in range(bars)]
    strips += [(x, 0.0, thick, height) for x in uprights]
    parts = []
    for x, z, w, h in strips:
        center = corner + along * (x + w / 2) + inward * deep / 2 + [0, 0, z]
        extent = np.abs(along) * w + np.abs(inward) * deep
        size = (float(extent[0]), float(extent[1]), h)
        parts.append(box(size, (float(center[0]), float(center[1]), float(center[2]))))
    frame = merge(parts)
    frame.material_ids[:] = 0
    frame.materials = [Material()]
    b.add(frame, b.paint())


def _rug(b: _Builder) -> None:
    extent = b.size[:2] * b.rng.uniform(0.25, 0.6, 2)
    free = (b.size[:2] - extent) / 2
    spot = b.rng.uniform(-free, free) - extent / 2
    x, y = np.array([extent[0], 0, 0]), np.array([0, extent[1], 0])
    low = np.array([spot[0], spot[1], 0.006])
    once = b.rng.random() < 0.5
    uv = (1.0, 1.0) if once else (float(extent[0]), float(extent[1]))
    row = b.surface(0.4, 3.0)
    if once:
        row[4] = 1.0
    b.add(quad(low, x, y, uv), row)
