"""Sampling the light of a room."""

import numpy as np

from .scene import Light, Sun
from .structure import Opening


def warmth(rng: np.random.Generator) -> np.ndarray:
    """Linear RGB of a lamp between candle light and cool daylight, `(3,)`, green about 1."""
    t = rng.uniform(-1, 1)
    return np.array([1 + 0.35 * max(-t, 0) - 0.12 * max(t, 0), 1.0, 1 + 0.25 * t + 0.2 * min(t, 0)])


def sample_lighting(
    rng: np.random.Generator, size: np.ndarray, window: Opening | None
) -> tuple[list[Light], Sun | None, np.ndarray]:
    """Draw lamps, sunlight and ambient light.

    Args:
        rng: the only source of randomness.
        size: of the room in metres, `(3,)`.
        window: where the sun may come in.

    Returns:
        Point lights (the first hangs under the ceiling), the sun or None, and the ambient light
        from above and below, linear RGB `(2, 3)`.
    """
    spot = rng.uniform(-0.3, 0.3, 2) * size[:2]
    main = Light(
        np.array([*spot, size[2] - rng.uniform(0.1, 0.5)]), warmth(rng) * rng.uniform(0.8, 4.0)
    )
    lights = [main]
    for _ in range(int(rng.integers(0, 4))):
        where = rng.uniform([-0.48, -0.48, 0.2], [0.48, 0.48, 0.9]) * size
        lights.append(Light(where, warmth(rng) * np.exp(rng.uniform(np.log(0.1), np.log(1.2)))))
    sky = warmth(rng) * rng.uniform(0.12, 0.6)
    ground = sky * rng.uniform(0.4, 0.9) * np.clip(1 + rng.normal(0, 0.1, 3), 0.6, 1.4)
    sun = _sun(rng, window) if window is not None and rng.random() < 0.6 else None
    return lights, sun, np.stack([sky, ground])


def _sun(rng: np.random.Generator, window: Opening) -> Sun:
    side = np.cross([0, 0, 1.0], window.inward)
    direction = window.inward + side * rng.uniform(-0.8, 0.8) - [0, 0, rng.uniform(0.3, 1.3)]
    color = np.array([1.0, 0.93, 0.82]) * rng.uniform(1.5, 6.0)
    return Sun(
        direction / np.linalg.norm(direction), color, window.corner, window.across, window.up
    )
