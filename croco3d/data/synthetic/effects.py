"""From linear light to a photograph: exposure, white balance, blur, noise, tone curve."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class PhotoSettings:
    """Ranges of what a camera does to light.

    Attributes:
        brightness: range of the mean the exposure aims at, linear.
        exposure_error: standard deviation of the misjudged exposure in stops.
        white_balance: standard deviation of the channels' gains.
        gamma: range of the display power.
        blur: largest standard deviation of the blur in pixels.
        motion: longest streak of motion blur in pixels.
        noise: largest standard deviation of the noise at mid grey.
    """

    brightness: tuple[float, float] = (0.14, 0.32)
    exposure_error: float = 0.35
    white_balance: float = 0.06
    gamma: tuple[float, float] = (1.9, 2.5)
    blur: float = 0.7
    motion: float = 2.5
    noise: float = 0.03


def develop(
    radiance: np.ndarray, rng: np.random.Generator, settings: PhotoSettings, look: np.ndarray
) -> np.ndarray:
    """Turn linear light into an sRGB-like picture.

    Args:
        radiance: `(H, W, 3)` float32, linear.
        rng: source of randomness.
        settings: ranges.
        look: what the pictures of a room share, in [0, 1]: brightness, gamma, contrast and
            noise, `(4,)`.

    Returns:
        `(H, W, 3)` uint8.
    """
    goal = np.interp(look[0], [0, 1], settings.brightness)
    gain = goal / (float(np.exp(np.log(radiance.mean(axis=2) + 1e-3).mean())) + 1e-3)
    gain = min(gain, 1.0 / (float(np.percentile(radiance[::2, ::2], 90)) + 1e-3))
    gain *= 2 ** rng.normal(0, settings.exposure_error)
    channels = gain * (1 + rng.normal(0, settings.white_balance, 3))
    light = _blurred(radiance * channels.astype(np.float32), rng, settings)
    noise = settings.noise * look[3] ** 2
    shot = rng.standard_normal(light.shape, dtype=np.float32)
    light = light + shot * np.float32(noise) * np.sqrt(np.maximum(light, 0) * 0.5 + 0.01)
    # A shoulder that leaves shadows and mid tones alone and rolls off the highlights.
    light = np.maximum(light, 0)
    shoulder = np.float32(0.15 + 0.5 * look[2])
    light = light * (1 + light * shoulder / 4) / (1 + light * shoulder)
    power = 1 / np.interp(look[1], [0, 1], settings.gamma)
    return (np.clip(light, 0, 1) ** np.float32(power) * 255 + 0.5).astype(np.uint8)


def _blurred(image: np.ndarray, rng: np.random.Generator, settings: PhotoSettings) -> np.ndarray:
    kind = rng.random()
    if kind < 0.25:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, settings.blur)))
    if kind < 0.35:
        angle, length = rng.uniform(0, np.pi), rng.uniform(1, settings.motion)
        kernel = np.zeros((5, 5), np.float32)
        for t in np.linspace(-0.5, 0.5, 16):
            x, y = 2 + length * t * np.cos(angle), 2 + length * t * np.sin(angle)
            kernel[int(round(y)), int(round(x))] += 1 / 16
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return image
