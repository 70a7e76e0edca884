"""One picture that shows what a reconstruction is worth, before opening a viewer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..files import atomic_path
from .camera import FRUSTUM_EDGES, Camera
from .export.glb import camera_color
from .fusion import valid_masks
from .rendering import oblique_camera, render_splats, scene_splats, shade_by_depth
from .scene import Scene

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Picture = NDArray[np.uint8]

_MARGIN, _GAP, _LABEL = 24, 12, 26
_BACKGROUND, _INK, _FAINT = (250, 250, 251), (32, 36, 44), (120, 126, 138)
_VOID, _CANVAS = (226, 228, 233), (24, 27, 34)
# Width of a tile for 1, 2, ... rows: fewer images are shown larger.
_TILES = (440, 370, 310, 260, 230)


def draw_preview(
    scene: Scene, path: str | os.PathLike[str], *, min_confidence: float = 0.0
) -> None:
    """Draw images, depth and confidence maps, and a view of the coloured cloud.

    Args:
        scene: The scene; of many images, five are shown.
        path: The `.png` file.
        min_confidence: Percentile of confidence, see `Scene.mask`; what is below is left out of the
            cloud and grey in the depth maps.

    Raises:
        ValueError: If `path` does not end with `.png`.
    """
    if not os.fspath(path).lower().endswith(".png"):
        raise ValueError(f"A preview is a PNG picture: end {os.fspath(path)!r} with .png.")
    picture = preview_picture(scene, min_confidence=min_confidence)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary)


def preview_picture(scene: Scene, *, min_confidence: float = 0.0) -> Picture:
    """The picture of `draw_preview` as an array `(H, W, 3)`."""
    shown = min(len(scene), len(_TILES))
    chosen = np.unique(np.linspace(0, len(scene) - 1, shown).round().astype(int))
    width, height = _tile_size(scene, shown)
    view_height = max(shown * height + (shown - 1) * _GAP, 400)
    view_width = round(view_height * 1.25)
    total_width = 2 * _MARGIN + 3 * width + 3 * _GAP + view_width
    total_height = 2 * _MARGIN + 2 * _LABEL + view_height
    page = Image.new("RGB", (total_width, total_height), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    top = _MARGIN + _LABEL
    _draw_maps(page, draw, scene, chosen, (width, height), min_confidence)
    left = _MARGIN + 3 * (width + _GAP)
    page.paste(
        Image.fromarray(_cloud_view(scene, view_width, view_height, min_confidence)), (left, top)
    )
    count = f"{len(scene)} image" + ("s" if len(scene) > 1 else "")
    unit = "metres" if scene.metric else "scene units"
    _text(draw, (left, _MARGIN), f"Cloud and cameras of {count}", _INK)
    _text(draw, (left, top + view_height + 8), f"lengths in {unit}", _FAINT)
    return np.asarray(page)


def _tile_size(scene: Scene, rows: int) -> tuple[int, int]:
    """Width and height of a tile that suits most images' proportions."""
    ratio = float(np.median([i.shape[0] / i.shape[1] for i in scene.images]))
    longest = _TILES[rows - 1]
    width = longest if ratio <= 1 else round(longest / ratio)
    return width, max(1, round(width * ratio))


def _draw_maps(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    scene: Scene,
    chosen: NDArray,
    tile: tuple[int, int],
    min_confidence: float,
) -> None:
    """A row an image: what the network saw, depth, confidence; with scales below."""
    masks = [m.numpy() for m in valid_masks(scene, min_confidence)]
    depths = [scene.depthmaps[i].float().numpy() for i in chosen]
    confidences = [scene.confidences[i].float().numpy() for i in chosen]
    depth_range = _range([d[masks[i]] for d, i in zip(depths, chosen, strict=True)])
    confidence_range = _range([c.ravel() for c in confidences])
    top = _MARGIN + _LABEL
    columns = [_MARGIN + k * (tile[0] + _GAP) for k in range(3)]
    for row, index in enumerate(chosen):
        depth = turbo(depths[row], (depth_range[1], depth_range[0]))
        depth[~masks[index]] = _VOID
        tiles = (scene.images[index].numpy(), depth, turbo(confidences[row], confidence_range))
        y = top + row * (tile[1] + _GAP)
        for x, picture in zip(columns, tiles, strict=True):
            page.paste(Image.fromarray(_fit(picture, tile)), (x, y))
        color = tuple(int(c) for c in camera_color(int(index), len(scene)))
        draw.rectangle((columns[0] - 8, y, columns[0] - 4, y + tile[1] - 1), fill=color)
    bottom = top + len(chosen) * (tile[1] + _GAP) - _GAP + 8
    for x, title in zip(columns, ("Image", "Depth", "Confidence"), strict=True):
        _text(draw, (x, _MARGIN), title, _INK)
    _text(draw, (columns[0], bottom), _names(scene, chosen, tile[0]), _FAINT)
    _scale(page, draw, (columns[1], bottom), tile[0], depth_range, reverse=True)
    _scale(page, draw, (columns[2], bottom), tile[0], confidence_range, reverse=False)


def _names(scene: Scene, chosen: NDArray, width: int) -> str:
    text = ", ".join(scene.names[i] for i in chosen)
    if len(chosen) < len(scene):
        text = f"{len(chosen)} of {len(scene)}: {text}"
    font = _font()
    while font.getlength(text) > width and len(text) > 4:
        text = text[:-2].rstrip(". …") + "…"
    return text


def _range(values: list[NDArray]) -> tuple[float, float]:
    """The 2nd and 98th percentile of finite values, apart."""
    together = np.concatenate([v[np.isfinite(v)] for v in values])
    if not len(together):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(together, [2, 98]))
    return (low, high) if high > low else (low, low + 1e-6 + abs(low) * 1e-3)


def turbo(values: NDArray, limits: tuple[float, float]) -> Picture:
    """Colour a map `(H, W)`: blue at the first limit, red at the second (Turbo colour map)."""
    share = (np.nan_to_num(values, posinf=0, neginf=0) - limits[0]) / (limits[1] - limits[0])
    levels = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1].astype(np.uint8)


def _fit(picture: NDArray, tile: tuple[int, int]) -> Picture:
    """Resize a picture into a tile, keeping its proportions, centred."""
    factor = min(tile[0] / picture.shape[1], tile[1] / picture.shape[0])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=how)
    canvas = np.full((tile[1], tile[0], 3), _BACKGROUND, dtype=np.uint8)
    x, y = (tile[0] - size[0]) // 2, (tile[1] - size[1]) // 2
    canvas[y : y + size[1], x : x + size[0]] = small
    return canvas


def _scale(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    width: int,
    limits: tuple[float, float],
    reverse: bool,
) -> None:
    """A colour bar with the values at its ends."""
    low, high = f"{limits[0]:.3g}", f"{limits[1]:.3g}"
    font = _font()
    left = corner[0] + int(font.getlength(low)) + 8
    right = corner[0] + width - int(font.getlength(high)) - 8
    ramp = np.linspace(1 if reverse else 0, 0 if reverse else 1, max(2, right - left))
    bar = turbo(np.repeat(ramp[None], 8, 0), (0, 1))
    _text(draw, corner, low, _FAINT)
    page.paste(Image.fromarray(bar), (left, corner[1] + 4))
    _text(draw, (right + 8, corner[1]), high, _FAINT)


def _cloud_view(scene: Scene, width: int, height: int, min_confidence: float) -> Picture:
    """The cloud from an oblique viewpoint with the cameras, drawn at twice the size."""
    canvas = np.full((2 * height, 2 * width, 3), _CANVAS, dtype=np.uint8)
    splats = scene_splats(scene, min_confidence)
    if not len(splats.points):
        return canvas[::2, ::2]
    camera = oblique_camera(scene, splats, 2 * width, 2 * height)
    image, depth = render_splats(splats, camera)
    hit = np.isfinite(depth)
    canvas[hit] = shade_by_depth(image, depth)[hit]
    size = 0.12 * float(torch.cat([d[d > 0] for d in scene.depthmaps]).median())
    for index, seen in enumerate(scene.cameras):
        _draw_frustum(canvas, camera, seen, size, camera_color(index, len(scene)))
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _draw_frustum(
    canvas: Picture, camera: Camera, seen: Camera, size: float, color: NDArray[np.uint8]
) -> None:
    """Outline a photograph's camera; its image plane lies at depth `size`."""
    pixels, depth = camera.project(seen.corners(size))
    if not (depth > 0).all():  # behind the viewpoint, or the NaN of a failed alignment
        return
    corners = [tuple(int(x) for x in (p * 16).round()) for p in pixels]
    for a, b in FRUSTUM_EDGES:
        cv2.line(canvas, corners[a], corners[b], color.tolist(), 4, cv2.LINE_AA, shift=4)


def _font() -> FreeTypeFont:
    font = ImageFont.load_default(size=15)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _text(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, color: tuple[int, int, int]
) -> None:
    draw.text(corner, text, fill=color, font=_font())
