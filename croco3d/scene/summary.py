"""A scene in a few numbers, for a line of text or a program."""

from __future__ import annotations

import math
from typing import Any

from ..geometry import relative_pose, rotation_angle
from .scene import Camera, Scene

# Diagonal of a 36 x 24 mm negative, to which equivalent focals refer.
NEGATIVE_DIAGONAL = math.hypot(36, 24)


def summarise(scene: Scene) -> dict[str, Any]:
    """Numbers that say what was found.

    Args:
        scene: The scene.

    Returns:
        JSON-serialisable: `images` with name, width, height, focal in pixels and as 35 mm
        equivalent, and pose relative to the first image (rotation angle in degrees, translation in
        the first camera's frame, in the unit of the scene); `points`; `unit`; and the entries of
        `scene.info`.
    """
    first = scene.cameras[0]
    images = []
    for name, camera in zip(scene.names, scene.cameras, strict=True):
        relative = relative_pose(first.cam2world, camera.cam2world)
        angle = rotation_angle(first.cam2world[:3, :3], camera.cam2world[:3, :3])
        images.append(
            {
                "name": name,
                "width": camera.width,
                "height": camera.height,
                "focal_px": round(_focal(camera), 2),
                "focal_mm": round(equivalent_focal(camera), 1),
                "rotation_degrees": round(float(angle), 3),
                "translation": [round(float(value), 5) for value in relative[:3, 3]],
            }
        )
    return {
        "images": images,
        "points": sum(depth.numel() for depth in scene.depthmaps),
        "unit": "metre" if scene.metric else "unknown",
        **scene.info,
    }


def one_line(summary: dict[str, Any]) -> str:
    """The summary of a scene as one line of text: sizes, focals, and poses relative to the first.

    With more than two images, the range of focals stands for all, and the farthest image.
    """
    images = summary["images"]
    sizes = ", ".join(sorted({f"{i['width']}x{i['height']}" for i in images}))
    pixels = [image["focal_px"] for image in images]
    lengths = [image["focal_mm"] for image in images]
    unit = " m" if summary["unit"] == "metre" else " units"
    others = images[1:] if len(images) == 2 else [max(images[1:], key=_distance)]
    poses = "; ".join(
        f"{image['name']} is turned {image['rotation_degrees']:.1f} degrees and "
        f"{_distance(image):.3g}{unit} away, at ({_numbers(image['translation'])})"
        for image in others
    )
    return (
        f"{len(images)} images of {sizes} pixels, focal {_range(pixels)} px "
        f"({_range(lengths)} mm equivalent); from {images[0]['name']}, {poses}."
    )


def equivalent_focal(camera: Camera) -> float:
    """Focal in mm of a 35 mm camera with the same diagonal field of view."""
    return _focal(camera) * NEGATIVE_DIAGONAL / math.hypot(camera.width, camera.height)


def _focal(camera: Camera) -> float:
    return float(camera.intrinsics[0, 0] + camera.intrinsics[1, 1]) / 2


def _distance(image: dict[str, Any]) -> float:
    return math.hypot(*image["translation"])


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
