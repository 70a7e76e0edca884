"""Procedural pieces: furniture and clutter made of boxes, lathed profiles and superquadrics."""

from collections.abc import Callable

import numpy as np

from .mesh import Material, Mesh, box_uvs, merge, normalized

Vector = tuple[float, float, float]


def box(size: Vector, at: Vector = (0.0, 0.0, 0.0), material: Material | None = None) -> Mesh:
    """Make a box.

    Args:
        size: extents in metres.
        at: centre of its underside.
        material: grey where not given.

    Returns:
        24 vertices with outward normals.
    """
    corners, normals, triangles = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            first, second = (axis + 1) % 3, (axis + 2) % 3
            base = len(corners)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corner = normal.copy()
                corner[first], corner[second] = a, b
                corners.append(corner)
                normals.append(normal)
            triangles += [(base, base + 1, base + 2), (base, base + 2, base + 3)]
    positions = np.array(corners) * 0.5 * np.array(size) + [at[0], at[1], at[2] + size[2] / 2]
    return _mesh(positions, np.array(normals), np.array(triangles), material)


def lathe(
    radii: np.ndarray,
    heights: np.ndarray,
    at: Vector = (0.0, 0.0, 0.0),
    material: Material | None = None,
    sides: int = 20,
) -> Mesh:
    """Turn a profile about the z axis.

    Args:
        radii: `(K,)` metres.
        heights: `(K,)` metres above `at`.
        at: origin of the axis.
        material: grey where not given.
        sides: number of faces around.

    Returns:
        The surface of revolution; profiles that start and end at radius 0 are closed.
    """
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    positions = np.concatenate(
        [
            radii[:, None, None] * ring,
            np.broadcast_to(heights[:, None, None], (len(radii), sides + 1, 1)),
        ],
        axis=2,
    )
    return _grid_mesh(positions + np.array(at), material)


def superquadric(size: Vector, e1: float, e2: float, at: Vector, material: Material) -> Mesh:
    """Make a superquadric: exponents 1 give an ellipsoid, near 0 a box, 2 an octahedron.

    Args:
        size: extents in metres.
        e1: exponent from pole to pole.
        e2: exponent around.
        at: centre of its underside.
        material: of the surface.

    Returns:
        A closed surface.
    """
    v = np.linspace(-np.pi / 2, np.pi / 2, 15)[:, None]
    u = np.linspace(-np.pi, np.pi, 29)[None]
    x = _power(np.cos(v), e1) * _power(np.cos(u), e2)
    y = _power(np.cos(v), e1) * _power(np.sin(u), e2)
    z = _power(np.sin(v), e1) * np.ones_like(u)
    positions = np.stack([x, y, z], axis=-1) * 0.5 * np.array(size)
    return _grid_mesh(positions + [at[0], at[1], at[2] + size[2] / 2], material)


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(values) * np.abs(values) ** exponent


def _grid_mesh(positions: np.ndarray, material: Material | None) -> Mesh:
    """Mesh of a `(K, L, 3)` grid of points whose columns go counter-clockwise seen from above."""
    rows, columns = positions.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    along = np.gradient(positions, axis=0)
    around = np.gradient(positions, axis=1)
    around[:, [0, -1]] = (positions[:, 1] - positions[:, -2])[:, None]
    normals = normalized(np.cross(around, along)).reshape(-1, 3)
    return _mesh(positions.reshape(-1, 3), normals, triangles, material)


def _mesh(
    positions: np.ndarray, normals: np.ndarray, triangles: np.ndarray, material: Material | None
) -> Mesh:
    return Mesh(
        positions.astype(np.float32),
        normals.astype(np.float32),
        box_uvs(positions, normals),
        np.zeros(len(positions), np.uint8),
        triangles.astype(np.uint32),
        [material or Material()],
    )


def _paint(rng: np.random.Generator) -> Material:
    color = np.clip(rng.uniform(0.08, 0.95) + rng.normal(0, 0.13, 3), 0.03, 0.98)
    gloss = float(rng.uniform(0, 0.6)) if rng.random() < 0.4 else 0.0
    return Material((float(color[0]), float(color[1]), float(color[2])), -1, gloss)


def table(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A table, square or round; returns the mesh and the height on which things can stand."""
    w, d, h = rng.uniform(0.5, 1.9), rng.uniform(0.45, 1.0), rng.uniform(0.4, 0.95)
    thick, leg = rng.uniform(0.02, 0.07), rng.uniform(0.03, 0.09)
    top, legs = _paint(rng), _paint(rng)
    if rng.random() < 0.3:
        r = d / 2
        disc = lathe(np.array([0, r, r, 0]), np.array([h - thick, h - thick, h, h]), material=top)
        foot = np.array([r * 0.6, leg, leg, leg])
        return merge([disc, lathe(foot, np.array([0, 0.06, h / 2, h - thick]), material=legs)]), h
    parts = [box((w, d, thick), (0, 0, h - thick), top)]
    for x in (-1, 1):
        for y in (-1, 1):
            spot = (x * (w - leg) / 2, y * (d - leg) / 2, 0.0)
            parts.append(box((leg, leg, h - thick), spot, legs))
    return merge(parts), h


def shelf(rng: np.random.Generator) -> tuple[Mesh, float]:
    """An open shelf with books and boxes."""
    w, d, h = rng.uniform(0.5, 1.6), rng.uniform(0.22, 0.42), rng.uniform(0.7, 2.2)
    t, wood = 0.025, _paint(rng)
    levels = int(rng.integers(2, 6))
    parts = [box((t, d, h), (s * (w - t) / 2, 0, 0), wood) for s in (-1, 1)]
    parts.append(box((w, 0.01, h), (0, d / 2, 0), wood))
    covers = [_paint(rng) for _ in range(8)]
    for level in range(levels + 1):
        z = level * (h - t) / levels
        parts.append(box((w, d, t), (0, 0, z), wood))
        if level < levels:
            parts += _books(rng, w - 2 * t, d, z + t, (h - t) / levels - t, covers)
    merged = merge(parts)
    return _share_materials(merged, [wood, *covers]), h


def _books(
    rng: np.random.Generator,
    width: float,
    depth: float,
    z: float,
    room: float,
    covers: list[Material],
) -> list[Mesh]:
    parts: list[Mesh] = []
    x = -width / 2 + rng.uniform(0, 0.1)
    while x < width / 2 - 0.12 and len(parts) < 22:
        if rng.random() < 0.25:
            x += rng.uniform(0.02, 0.3)
        w = rng.uniform(0.015, 0.06) if rng.random() < 0.8 else rng.uniform(0.08, 0.25)
        if x + w > width / 2:
            break
        size = (w, depth * rng.uniform(0.5, 0.9), room * rng.uniform(0.4, 0.95))
        cover = covers[int(rng.integers(0, len(covers)))]
        parts.append(box(size, (x + w / 2, depth * 0.04, z), cover))
        x += w
    return parts


def _share_materials(mesh: Mesh, materials: list[Material]) -> Mesh:
    """Replace a merged material list, which repeats entries, by the distinct ones."""
    index = {id(m): i for i, m in enumerate(materials)}
    lookup = np.array([index[id(m)] for m in mesh.materials], np.uint8)
    mesh.material_ids = lookup[mesh.material_ids]
    mesh.materials = materials
    return mesh


def cabinet(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A cupboard or chest with panelled fronts and knobs."""
    w, d, h = rng.uniform(0.4, 1.5), rng.uniform(0.35, 0.65), rng.uniform(0.45, 2.1)
    body, front, knob = _paint(rng), _paint(rng), _paint(rng)
    parts = [box((w, d, h), material=body)]
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    gap = 0.03
    for i in range(columns):
        for j in range(rows):
            size = (w / columns - gap, 0.02, h / rows - gap)
            x, z = (i + 0.5) * w / columns - w / 2, j * h / rows + gap / 2
            parts.append(box(size, (x, -d / 2 - 0.01, z), front))
            parts.append(box((0.03, 0.03, 0.03), (x, -d / 2 - 0.03, z + size[2] * 0.5), knob))
    return _share_materials(merge(parts), [body, front, knob]), h


def seat(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A chair or a sofa."""
    wide = rng.random() < 0.4
    w = rng.uniform(1.2, 2.2) if wide else rng.uniform(0.4, 0.75)
    d, h, back = rng.uniform(0.42, 0.85), rng.uniform(0.38, 0.5), rng.uniform(0.35, 0.6)
    cloth, frame = _paint(rng), _paint(rng)
    thick = rng.uniform(0.04, 0.2)
    cushion = superquadric((w, d, thick), 0.25, 0.15, (0, 0, h - thick), cloth)
    rest = superquadric((w, 0.14, back), 0.3, 0.2, (0, d / 2 - 0.07, h), cloth)
    legs = [
        box((0.05, 0.05, h - thick), (x * (w / 2 - 0.04), y * (d / 2 - 0.04), 0), frame)
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    arms = [box((0.12, d, h + 0.15), (x * w / 2, 0, 0.02), frame) for x in (-1, 1)] if wide else []
    return _share_materials(merge([cushion, rest, *legs, *arms]), [cloth, frame]), 0.0


def floor_lamp(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A foot, a pole and a shade."""
    h, shade_height = rng.uniform(1.2, 1.8), rng.uniform(0.2, 0.4)
    low, high = rng.uniform(0.15, 0.3), rng.uniform(0.06, 0.2)
    metal, shade = _paint(rng), _paint(rng)
    pole = lathe(
        np.array([0, 0.16, 0.16, 0.015, 0.015]), np.array([0, 0, 0.03, 0.05, h]), material=metal
    )
    top = lathe(np.array([low, high]), np.array([h - shade_height, h]), material=shade)
    return merge([pole, top]), 0.0


def vase(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A turned vessel with a smooth random profile."""
    h, r = rng.uniform(0.12, 0.6), rng.uniform(0.05, 0.2)
    t = np.linspace(0, 1, 12)
    wave = sum(
        rng.normal(0, 0.35 / k) * np.sin(np.pi * k * t + rng.uniform(0, 3)) for k in (1, 2, 3)
    )
    radii = r * np.clip(0.65 + wave, 0.2, 1.3)
    radii[0] = 0
    return lathe(radii, h * np.maximum(t - t[1], 0), material=_paint(rng)), 0.0


def boxes(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A stack of boxes or books, each a little turned."""
    parts, z = [], 0.0
    w, d = rng.uniform(0.1, 0.5, 2)
    for _ in range(int(rng.integers(1, 5))):
        h = rng.uniform(0.02, 0.35) * rng.uniform(0.4, 1)
        part = box((w * rng.uniform(0.7, 1), d * rng.uniform(0.7, 1), h), (0, 0, z), _paint(rng))
        _turn(part, rng.normal(0, 0.25))
        parts.append(part)
        z += h
    return merge(parts), z


def blob(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A ball, pouf, cushion or rounded block."""
    side = np.exp(rng.uniform(np.log(0.08), np.log(0.6)))
    size = side * rng.uniform(0.5, 1.2, 3)
    e1, e2 = rng.uniform(0.15, 1.4, 2)
    extents = (float(size[0]), float(size[1]), float(size[2]))
    return superquadric(extents, float(e1), float(e2), (0, 0, 0), _paint(rng)), 0.0


def bed(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A bed with headboard, mattress and pillows."""
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(1.9, 2.1), rng.uniform(0.35, 0.6)
    frame, cloth, pillow = _paint(rng), _paint(rng), _paint(rng)
    parts = [
        box((w, d, h * 0.5), (0, 0, 0.05), frame),
        box((w, 0.06, h + rng.uniform(0.2, 0.6)), (0, d / 2, 0), frame),
        superquadric((w * 0.97, d * 0.97, h * 0.5), 0.2, 0.1, (0, 0, h * 0.5), cloth),
    ]
    for x in (-0.25, 0.25):
        spot = (x * w, d / 2 - 0.3, h * 0.97)
        parts.append(superquadric((w * 0.4, 0.4, 0.14), 0.6, 0.4, spot, pillow))
    return _share_materials(merge(parts), [frame, cloth, pillow]), 0.0


def _turn(mesh: Mesh, angle: float) -> None:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    mesh.positions = mesh.positions @ turn.T
    mesh.normals = mesh.normals @ turn.T


SHAPES: dict[Callable[[np.random.Generator], tuple[Mesh, float]], float] = {
    table: 2.0,
    shelf: 2.0,
    cabinet: 2.0,
    seat: 2.0,
    floor_lamp: 1.0,
    bed: 0.7,
    vase: 2.0,
    boxes: 3.0,
    blob: 2.5,
}


def random_shape(rng: np.random.Generator) -> tuple[str, Mesh, float]:
    """Draw one piece.

    Args:
        rng: the only source of randomness.

    Returns:
        Kind, mesh (metres, object frame), and the height on which things can stand (0: none).
    """
    kinds = list(SHAPES)
    weights = np.array(list(SHAPES.values()))
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    mesh, top = kind(rng)
    return kind.__name__, mesh, top
