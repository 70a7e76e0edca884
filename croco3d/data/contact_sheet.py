"""Pictures of pairs: both views, their depths, and the first view's points drawn in the second."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..files import atomic_path
from .draws import UNREADABLE
from .frames import PairSource
from .loading import LoadedFrame, load_frame
from .overlap import reproject, small_view

_WIDTH, _GAP, _LINE = 240, 4, 16
_GOOD, _HIDDEN, _BAD = (60, 220, 90), (90, 140, 255), (255, 60, 50)


def save_contact_sheet(path: str | Path, source: PairSource, pairs: Sequence[int]) -> None:
    """Write a PNG with a row for every pair.

    The columns are view 1, view 2, depth 1, depth 2 and view 2 with view 1's points: green on its
    surface, blue behind it (hidden), red in front of it, where nothing should be.

    Args:
        path: The PNG file.
        source: The data set.
        pairs: Indices of pairs.
    """
    rows = [_row(source, index) for index in pairs]
    if not rows:
        raise ValueError("A contact sheet needs at least one pair.")
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(padded)).save(temporary, format="PNG")


def _row(source: PairSource, index: int) -> NDArray[np.uint8]:
    first, second = source.pair(index)
    title = f"{index}: {first.name} | {second.name}"
    try:
        views = [load_frame(first), load_frame(second)]
    except UNREADABLE as error:
        return _titled(np.zeros((_LINE, 5 * (_WIDTH + _GAP), 3), np.uint8), f"{title}: {error}")
    tiles = [
        *(_colours(view) for view in views),
        *(_depth_colours(view) for view in views),
        _points(views[0], views[1]),
    ]
    height = max(tile.shape[0] for tile in tiles)
    padded = [np.pad(tile, ((0, height - len(tile)), (0, _GAP), (0, 0))) for tile in tiles]
    return _titled(np.concatenate(padded, axis=1), title)


def _titled(row: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    line = Image.new("RGB", (row.shape[1], _LINE))
    ImageDraw.Draw(line).text((2, 2), text.encode("latin-1", "replace").decode("latin-1"))
    return np.concatenate((np.asarray(line), row))


def _colours(view: LoadedFrame) -> NDArray[np.uint8]:
    height = max(1, round(_WIDTH * view.size[1] / view.size[0]))
    return np.array(Image.fromarray(view.image).resize((_WIDTH, height)))


def _depth_colours(view: LoadedFrame) -> NDArray[np.uint8]:
    """Near is red, far is blue, within the view's range; black is invalid."""
    depth = small_view(view, _WIDTH).depth
    valid = depth > 0
    result = np.zeros((*depth.shape, 3), np.uint8)
    if valid.any():
        low, high = np.percentile(depth[valid], (2, 98))
        share = ((depth[valid] - low) / max(high - low, 1e-9)).clip(0, 1)
        near_is_red = (255 * (1 - share)).astype(np.uint8)
        colours = cv2.applyColorMap(near_is_red[:, None], cv2.COLORMAP_TURBO)
        result[valid] = colours.reshape(-1, 3)[:, ::-1]
    return result


def _points(first: LoadedFrame, second: LoadedFrame) -> NDArray[np.uint8]:
    picture = _colours(second) // 2
    seen = reproject(small_view(first, _WIDTH // 3).points, small_view(second, _WIDTH))
    on_surface = seen.agrees(0.05)
    in_front = (seen.measured > 0) & ~on_surface & (seen.depth < seen.measured)
    hidden = (seen.measured > 0) & ~on_surface & ~in_front
    for chosen, colour in ((hidden, _HIDDEN), (on_surface, _GOOD), (in_front, _BAD)):
        u, v = seen.pixels[chosen].T
        picture[v, u] = colour
    return picture
