"""Procedural textures: `(SIZE, SIZE, 4)` uint8 RGBA that repeat without a seam (nearly all)."""

import cv2
import numpy as np

SIZE = 256
Palette = np.ndarray


def random_texture(rng: np.random.Generator) -> np.ndarray:
    """Draw one texture of a random kind.

    Args:
        rng: the only source of randomness.

    Returns:
        `(SIZE, SIZE, 4)` uint8 sRGB with opaque alpha.
    """
    kinds = list(KINDS)
    kind = kinds[rng.choice(len(kinds), p=np.array(list(KINDS.values())) / sum(KINDS.values()))]
    image = kind(rng)
    if rng.random() < 0.5:
        grain = rng.normal(0, rng.uniform(0.005, 0.05), (SIZE, SIZE, 1))
        image = image + grain
    if rng.random() < 0.35:
        image = image * (1 + rng.uniform(0.1, 0.4) * spectral_noise(rng, 1.5)[..., None])
    rgb = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.dstack([rgb, np.full((SIZE, SIZE), 255, np.uint8)])


def random_palette(rng: np.random.Generator, count: int) -> Palette:
    """Colours `(count, 3)` in [0, 1]: either related in hue or free, dull more often than vivid."""
    hue = rng.uniform(0, 360) + rng.normal(0, 25 if rng.random() < 0.6 else 120, count)
    saturation = rng.beta(1.1, 3.0, count) if rng.random() < 0.8 else rng.uniform(0.3, 1.0, count)
    value = rng.uniform(0.12, 1.0, count)
    hsv = np.stack([hue % 360, saturation, value], axis=1).astype(np.float32)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float64)


def spectral_noise(
    rng: np.random.Generator, power: float, stretch: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Periodic noise with a 1/f^power spectrum and values of about [-1, 1].

    Args:
        rng: source of randomness.
        power: 0 is white, 2 is cloudy.
        stretch: frequencies of rows and columns are multiplied by this before weighting.

    Returns:
        `(SIZE, SIZE)` float64.
    """
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch[0]
    fx = np.fft.rfftfreq(SIZE)[None] * SIZE * stretch[1]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * radius**-power
    noise = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return np.clip(noise / (2.5 * noise.std() + 1e-12), -1, 1)


def _ramp(values: np.ndarray, palette: Palette) -> np.ndarray:
    """Map values in [0, 1] to colours by interpolating along the palette."""
    stops = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(values, stops, palette[:, c]) for c in range(3)], axis=-1)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    return y, x


def clouds(rng: np.random.Generator) -> np.ndarray:
    """Fractal noise through a palette."""
    noise = spectral_noise(rng, rng.uniform(0.6, 1.8), (1.0, float(np.exp(rng.normal(0, 0.6)))))
    return _ramp(noise * 0.5 + 0.5, random_palette(rng, int(rng.integers(2, 6))))


def plaster(rng: np.random.Generator) -> np.ndarray:
    """A nearly plain wall."""
    color = random_palette(rng, 1)[0] * 0.5 + rng.uniform(0.3, 0.5)
    noise = spectral_noise(rng, rng.uniform(0.3, 1.2)) * rng.uniform(0.02, 0.12)
    return color * (1 + noise[..., None])


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Bands of random widths, straight or wavy."""
    y, x = _grid()
    wave = rng.uniform(0, 0.08) * np.sin(2 * np.pi * rng.integers(1, 4) * y) * (rng.random() < 0.3)
    count = int(rng.integers(2, 24))
    edges = np.sort(rng.random(count))
    band = np.searchsorted(edges, (x + wave) % 1.0) % count
    palette = random_palette(rng, int(rng.integers(2, 6)))
    image = palette[rng.integers(0, len(palette), count)][band]
    return image if rng.random() < 0.5 else image.transpose(1, 0, 2)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Tiles or bricks with joints; every piece has its own shade."""
    y, x = _grid()
    rows, columns = int(rng.choice([1, 2, 4, 6, 8, 12])), int(rng.choice([1, 2, 3, 4, 6, 8]))
    row = np.floor(y * rows).astype(int)
    shift = 0.5 * (row % 2) if rng.random() < 0.5 and rows % 2 == 0 else 0.0
    position = (x * columns + shift) % columns
    column = np.floor(position).astype(int)
    palette = random_palette(rng, int(rng.integers(1, 4)))
    shade = rng.normal(1, rng.uniform(0.02, 0.25), (rows, columns))
    pick = rng.integers(0, len(palette), (rows, columns))
    if rng.random() < 0.3:
        pick = np.add.outer(np.arange(rows), np.arange(columns)) % len(palette)
    image = palette[pick[row, column]] * shade[row, column][..., None]
    image = image * (1 + 0.15 * spectral_noise(rng, rng.uniform(0.5, 1.5))[..., None])
    fy, fx = y * rows % 1, position % 1
    width = rng.uniform(0.0, 0.05) * max(rows, columns) / 4
    joint = (np.minimum(fy, 1 - fy) < width) | (np.minimum(fx, 1 - fx) < width * columns / rows)
    image[joint] = random_palette(rng, 1)[0]
    return image


def wood(rng: np.random.Generator) -> np.ndarray:
    """Boards with grain along the rows."""
    y, _ = _grid()
    boards = int(rng.choice([1, 2, 3, 4, 6, 8]))
    board = np.floor(y * boards).astype(int)
    offset = rng.uniform(0, 1, boards)[board]
    grain = spectral_noise(rng, rng.uniform(0.8, 1.4), (1.0, rng.uniform(6, 16)))
    rings = np.sin(2 * np.pi * (rng.uniform(2, 9) * (y + offset) + 1.2 * grain))
    base = np.array([rng.uniform(0.2, 0.8), 0, 0])
    base[1] = base[0] * rng.uniform(0.55, 0.85)
    base[2] = base[1] * rng.uniform(0.4, 0.9)
    shade = (1 + 0.12 * rings + 0.25 * grain) * rng.normal(1, 0.12, boards)[board]
    image = base * shade[..., None]
    if boards > 1:
        image[(y * boards % 1) < 0.012 * boards] *= 0.45
    return image if rng.random() < 0.5 else image.transpose(1, 0, 2)


def fabric(rng: np.random.Generator) -> np.ndarray:
    """Weave, with or without a check pattern."""
    y, x = _grid()
    threads = int(rng.choice([16, 32, 48, 64]))
    weave = np.sin(2 * np.pi * threads * x) * np.sin(2 * np.pi * threads * y)
    palette = random_palette(rng, 3)
    blend = 0.0
    if rng.random() < 0.6:
        n = int(rng.integers(1, 8))
        blend = 0.5 * ((x * n % 1 < 0.5) * 1.0 + (y * n % 1 < 0.5) * 1.0)[..., None]
    image = palette[0] * (1 - blend) + palette[1] * blend
    return image * (1 + rng.uniform(0.03, 0.2) * weave[..., None])


def cells(rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells: stones, marble veins, mosaics."""
    count = int(rng.integers(8, 90))
    points = rng.random((count, 2))
    y, x = _grid()
    distance = np.full((SIZE, SIZE), np.inf)
    second = distance.copy()
    index = np.zeros((SIZE, SIZE), int)
    for i, (py, px) in enumerate(points):
        dy, dx = np.abs(y - py), np.abs(x - px)
        d = np.hypot(np.minimum(dy, 1 - dy), np.minimum(dx, 1 - dx))
        closer = d < distance
        second = np.where(closer, distance, np.minimum(second, d))
        index[closer] = i
        distance = np.minimum(distance, d)
    palette = random_palette(rng, int(rng.integers(2, 6)))
    image = palette[rng.integers(0, len(palette), count)][index]
    image = image * rng.normal(1, 0.1, count)[index][..., None]
    image[second - distance < rng.uniform(0, 0.02)] *= rng.uniform(0.2, 0.8)
    return image


def motif(rng: np.random.Generator) -> np.ndarray:
    """Wallpaper: one mirrored figure, repeated."""
    n = int(rng.choice([2, 4, 8]))
    side = SIZE // n
    figure = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        cv2.ellipse(
            figure,
            tuple(int(v) for v in rng.integers(0, side, 2)),
            tuple(int(v) for v in rng.integers(2, max(side // 3, 3), 2)),
            float(rng.uniform(0, 180)),
            0,
            360,
            int(rng.integers(60, 255)),
            -1 if rng.random() < 0.5 else max(side // 32, 1),
        )
    figure = np.maximum(figure, figure[:, ::-1])
    values = np.tile(figure, (n, n)) / 255.0
    return _ramp(values, random_palette(rng, int(rng.integers(2, 4))))


def dead_leaves(rng: np.random.Generator) -> np.ndarray:
    """Shapes of all sizes covering each other, which has the statistics of photographs."""
    image = np.tile(random_palette(rng, 1)[0].astype(np.float32), (SIZE, SIZE, 1))
    palette = random_palette(rng, 24).astype(np.float32)
    for radius in np.sort(SIZE * 0.35 * rng.power(0.4, 150) + 2)[::-1]:
        color = tuple(float(c) for c in palette[rng.integers(0, 24)])
        center = rng.integers(0, SIZE, 2)
        if rng.random() < 0.5:
            axes = (int(radius), int(radius * rng.uniform(0.3, 1)))
            spot = tuple(int(v) for v in center)
            cv2.ellipse(image, spot, axes, float(rng.uniform(0, 180)), 0, 360, color, -1)
        else:
            corners = center + rng.normal(0, radius * 0.7, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(image, [corners.astype(np.int32)], color)
    return image * (1 + 0.15 * spectral_noise(rng, 1.0)[..., None])


def scenery(rng: np.random.Generator) -> np.ndarray:
    """A landscape for windows and paintings: sky, ridges, ground, trees."""
    y, x = _grid()
    sky = random_palette(rng, 2) * 0.4 + np.array([0.35, 0.5, 0.6])
    image = _ramp(y, np.clip(sky, 0, 1))
    image += 0.2 * np.clip(spectral_noise(rng, 1.6, (2.0, 1.0)), 0, 1)[..., None]
    for level in np.sort(rng.uniform(0.3, 0.95, int(rng.integers(2, 6)))):
        ridge = level + rng.uniform(0.02, 0.12) * spectral_noise(rng, rng.uniform(1.2, 2.0))[0]
        land = y > ridge[None]
        color = random_palette(rng, 1)[0] * (0.4 + 0.6 * level)
        texture = 1 + 0.35 * spectral_noise(rng, rng.uniform(0.6, 1.2))[..., None]
        image = np.where(land[..., None], color * texture, image)
    return image


def print_rows(rng: np.random.Generator) -> np.ndarray:
    """Rows of marks as on book spines, posters and newspapers."""
    paper, ink, accent = random_palette(rng, 3)
    image = np.tile(np.maximum(paper, 0.0), (SIZE, SIZE, 1))
    row = int(rng.integers(4, 14))
    top = int(rng.integers(0, row))
    while top < SIZE - row:
        height = int(row * rng.uniform(0.4, 0.9))
        left = int(rng.integers(2, 20))
        while left < SIZE - 10:
            width = int(rng.integers(2, 5 * row))
            if rng.random() < 0.75:
                image[top : top + height, left : left + width] = (
                    ink if rng.random() < 0.9 else accent
                )
            left += width + int(rng.integers(1, row))
        top += row
    if rng.random() < 0.6:
        y0, x0 = rng.integers(0, SIZE // 2, 2)
        h, w = rng.integers(SIZE // 6, SIZE // 2, 2)
        image[y0 : y0 + h, x0 : x0 + w] = dead_leaves(rng)[y0 : y0 + h, x0 : x0 + w]
    return image


KINDS = {
    clouds: 2.0,
    plaster: 2.0,
    stripes: 1.5,
    tiles: 2.5,
    wood: 2.0,
    fabric: 2.0,
    cells: 1.0,
    motif: 1.5,
    dead_leaves: 2.5,
    scenery: 1.0,
    print_rows: 1.5,
}
