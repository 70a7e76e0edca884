"""Sampling a furnished room from a seed."""

from dataclasses import dataclass, field

import numpy as np

from .catalogue import Catalogue, Piece
from .lighting import sample_lighting
from .scene import Placed, Room, material_row, to_linear
from .structure import Opening, build_structure

SPLIT_SALT = {"train": 11, "val": 12, "test": 13}
# Bounding boxes may reach into each other so far, in metres: pieces rarely fill theirs.
_TOUCH = 0.02
# Direction towards each wall, and the yaw that turns a piece's back to it.
_WALLS = [((0, 1), 0.0), ((0, -1), np.pi), ((1, 0), -np.pi / 2), ((-1, 0), np.pi / 2)]


@dataclass
class _Plan:
    """A room while it is being filled."""

    rng: np.random.Generator
    catalogue: Catalogue
    size: np.ndarray
    placed: list[Placed] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)

    def fits(self, box: np.ndarray) -> bool:
        half = self.size[:2] / 2 + 1e-6
        inside = (box[0, :2] >= -half).all() and (box[1, :2] <= half).all()
        if not inside or box[1, 2] > self.size[2]:
            return False
        if not self.boxes:
            return True
        others = np.stack(self.boxes)
        apart = (box[0] >= others[:, 1] - _TOUCH) | (box[1] <= others[:, 0] + _TOUCH)
        return bool(apart.any(axis=1).all())

    def add(self, index: int, position: np.ndarray, yaw: float, scale: float) -> bool:
        """Put a piece down if nothing is in its way."""
        piece = self.catalogue.pieces[index]
        box = _bounds(piece, position, yaw, scale)
        if not self.fits(box):
            return False
        materials = _materials(self.rng, self.catalogue, piece)
        self.placed.append(Placed(index, position, yaw, scale, materials))
        self.boxes.append(box)
        return True


def sample_room(catalogue: Catalogue, seed: int) -> Room:
    """Furnish a room.

    Args:
        catalogue: pieces and textures; rooms of different splits differ for equal seeds.
        seed: what everything about the room follows from.

    Returns:
        The room, equal for equal arguments.
    """
    rng = np.random.default_rng([SPLIT_SALT[catalogue.split], seed])
    size = np.array([rng.uniform(2.8, 6.8), rng.uniform(2.8, 6.8), rng.uniform(2.25, 3.2)])
    plan = _Plan(rng, catalogue, size)
    structure, materials, openings, solids = build_structure(rng, catalogue, size)
    plan.boxes += solids
    pools = {
        kind: [i for i, p in enumerate(catalogue.pieces) if p.placement == kind]
        for kind in ("floor", "table", "wall", "ceiling")
    }
    _fill_floor(plan, pools["floor"])
    _fill_tables(plan, pools["table"])
    _fill_walls(plan, pools["wall"])
    _fill_ceiling(plan, pools["ceiling"])
    boxes = np.stack(plan.boxes) if plan.boxes else np.zeros((0, 2, 3))
    window: Opening | None = openings[0] if openings else None
    lights, sun, ambient = sample_lighting(rng, size, window)
    return Room(size, structure, materials, plan.placed, boxes, lights, sun, ambient)


def _bounds(piece: Piece, position: np.ndarray, yaw: float, scale: float) -> np.ndarray:
    low, high = piece.mesh.bounds * scale
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    c, s = np.cos(yaw), np.sin(yaw)
    turned = corners @ np.array([[c, s], [-s, c]])
    flat = np.stack([turned.min(axis=0), turned.max(axis=0)]) + position[:2]
    return np.column_stack([flat, [low[2] + position[2], high[2] + position[2]]])


def _half_extents(piece: Piece, yaw: float, scale: float) -> np.ndarray:
    box = _bounds(piece, np.zeros(3), yaw, scale)
    return (box[1, :2] - box[0, :2]) / 2


def _against_wall(plan: _Plan, piece: Piece, scale: float, gap: float) -> tuple[np.ndarray, float]:
    rng = plan.rng
    toward, yaw = _WALLS[int(rng.integers(0, 4))]
    half = _half_extents(piece, yaw, scale)
    free = np.maximum(plan.size[:2] / 2 - half, 0)
    spot = rng.uniform(-free, free)
    axis = 0 if toward[0] else 1
    spot[axis] = toward[axis] * (free[axis] - gap)
    return np.array([spot[0], spot[1], 0.0]), yaw


def _in_the_open(plan: _Plan, piece: Piece, scale: float) -> tuple[np.ndarray, float]:
    rng = plan.rng
    yaw = float(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.4:
        yaw = float(np.round(yaw / (np.pi / 2)) * np.pi / 2 + rng.normal(0, 0.05))
    free = np.maximum(plan.size[:2] / 2 - _half_extents(piece, yaw, scale), 0)
    spot = rng.uniform(-free, free)
    return np.array([spot[0], spot[1], 0.0]), yaw


def _fill_floor(plan: _Plan, pool: list[int]) -> None:
    rng = plan.rng
    area = float(plan.size[0] * plan.size[1])
    goal, covered, count = rng.uniform(0.2, 0.45) * area, 0.0, int(rng.integers(6, 21))
    for _ in range(3 * count):
        index = pool[int(rng.integers(0, len(pool)))]
        piece = plan.catalogue.pieces[index]
        scale = float(rng.uniform(0.88, 1.12))
        beside_wall = rng.random() < 0.65
        for _ in range(6):
            if beside_wall:
                position, yaw = _against_wall(plan, piece, scale, float(rng.uniform(0, 0.08)))
            else:
                position, yaw = _in_the_open(plan, piece, scale)
            if plan.add(index, position, yaw, scale):
                covered += float(np.prod(piece.mesh.size[:2])) * scale**2
                break
        if covered > goal or len(plan.placed) >= count:
            return


def _fill_tables(plan: _Plan, pool: list[int]) -> None:
    """Small things on tables and shelves, and some on the floor."""
    rng = plan.rng
    for support in list(plan.placed):
        base = plan.catalogue.pieces[support.piece]
        if base.top < 0.25:
            continue
        reach = base.mesh.size[:2] * support.scale * 0.42
        c, s = np.cos(support.yaw), np.sin(support.yaw)
        for _ in range(int(rng.integers(0, 6))):
            index = pool[int(rng.integers(0, len(pool)))]
            scale = float(rng.uniform(0.9, 1.4))
            size = plan.catalogue.pieces[index].mesh.size[:2] * scale / 2
            free = reach - size
            if (free < 0).any():
                continue
            x, y = rng.uniform(-free, free)
            spot = support.position[:2] + [c * x - s * y, s * x + c * y]
            _add_on_top(plan, index, np.array([*spot, base.top * support.scale]), scale)
    for _ in range(int(rng.integers(2, 9))):
        index = pool[int(rng.integers(0, len(pool)))]
        scale = float(rng.uniform(0.9, 1.6))
        position, yaw = _in_the_open(plan, plan.catalogue.pieces[index], scale)
        plan.add(index, position, yaw, scale)


def _add_on_top(plan: _Plan, index: int, position: np.ndarray, scale: float) -> None:
    piece = plan.catalogue.pieces[index]
    yaw = float(plan.rng.uniform(0, 2 * np.pi))
    box = _bounds(piece, position, yaw, scale)
    small = [b for b in plan.boxes if b[0, 2] > 0.2 and abs(b[0, 2] - box[0, 2]) < 0.05]
    clear = all((box[0] >= b[1]).any() or (box[1] <= b[0]).any() for b in small)
    if clear and box[1, 2] < plan.size[2]:
        materials = _materials(plan.rng, plan.catalogue, piece)
        plan.placed.append(Placed(index, position, yaw, scale, materials))
        plan.boxes.append(box)


def _fill_walls(plan: _Plan, pool: list[int]) -> None:
    rng = plan.rng
    for _ in range(int(rng.integers(0, 5)) if pool else 0):
        index = pool[int(rng.integers(0, len(pool)))]
        piece = plan.catalogue.pieces[index]
        for _ in range(5):
            position, yaw = _against_wall(plan, piece, 1.0, 0.0)
            position[2] = piece.elevation
            if plan.add(index, position, yaw, 1.0):
                break


def _fill_ceiling(plan: _Plan, pool: list[int]) -> None:
    rng = plan.rng
    if pool and rng.random() < 0.5:
        index = pool[int(rng.integers(0, len(pool)))]
        piece = plan.catalogue.pieces[index]
        spot = rng.uniform(-0.25, 0.25, 2) * plan.size[:2]
        height = plan.size[2] - piece.mesh.size[2] - 0.001
        plan.add(index, np.array([*spot, height]), float(rng.uniform(0, 6.28)), 1.0)


def _materials(rng: np.random.Generator, catalogue: Catalogue, piece: Piece) -> np.ndarray:
    """Own colours, tinted, or covered with other textures."""
    real = piece.attribution is not None
    mode = rng.choice(3, p=[0.5, 0.2, 0.3] if real else [0.3, 0.1, 0.6])
    hue = rng.uniform(0.35, 1.3, 3)
    rows = []
    for material in piece.mesh.materials:
        tint, layer, scale = to_linear(material.color), material.texture, 1.0
        if mode == 1:
            tint = np.clip(tint * hue + 0.02, 0, 1)
        if mode == 2 and (layer < 0 or rng.random() < 0.3):
            layer = int(rng.choice(catalogue.surfaces))
            scale = float(np.exp(rng.uniform(np.log(0.5), np.log(4.0))))
            tint = np.clip(0.5 + 0.5 * hue, 0.3, 1.0)
        rows.append(material_row(tint, layer, scale, material.gloss * rng.uniform(0, 1)))
    return np.stack(rows)
