"""Crop and resize as one exact map from pixels of the source to pixels of the network input.

A window is a rectangle of the source in edge coordinates (the first pixel spans 0 to 1), not
rounded to whole pixels, and the size that it becomes. Image, depth, mask and intrinsics all go
through the same window, so that a point projects to the pixel that shows it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Window:
    """A rectangle of the source image and the size that it is resized to.

    Attributes:
        left: Where it begins, in source pixels from the left edge of the image.
        top: The same from the top edge.
        width: Its extent in source pixels.
        height: Its extent in source pixels.
        out_width: Pixels of a row of the result.
        out_height: Rows of the result.
    """

    left: float
    top: float
    width: float
    height: float
    out_width: int
    out_height: int

    def matrix(self) -> NDArray[np.float64]:
        """Give the `(3, 3)` map of homogeneous pixel coordinates, u' = (u + 0.5 - left) s - 0.5."""
        sx, sy = self.out_width / self.width, self.out_height / self.height
        return np.array(
            [
                [sx, 0.0, (0.5 - self.left) * sx - 0.5],
                [0.0, sy, (0.5 - self.top) * sy - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )

    def resize_image(self, image: Image.Image) -> Image.Image:
        """Resample colours: Lanczos, whose support grows with the reduction, against aliasing."""
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return image.resize((self.out_width, self.out_height), Image.Resampling.LANCZOS, box=box)

    def sample_nearest(self, array: NDArray, source_size: tuple[int, int]) -> NDArray:
        """Sample `(h, w)` at the source pixels that contain the centres of the result's pixels.

        Args:
            array: Values over the same rectangle as the source image, possibly of another size.
            source_size: (width, height) of the source image, in whose pixels the window is.
        """
        height, width = array.shape
        columns = (np.arange(self.out_width) + 0.5) * self.width / self.out_width + self.left
        rows = (np.arange(self.out_height) + 0.5) * self.height / self.out_height + self.top
        columns = np.floor(columns * width / source_size[0]).astype(int).clip(0, width - 1)
        rows = np.floor(rows * height / source_size[1]).astype(int).clip(0, height - 1)
        return array[np.ix_(rows, columns)]

    def scatter_nearest(self, depth: NDArray, source_size: tuple[int, int]) -> NDArray:
        """Carry every measured point of a sparse `(h, w)` depth map to its pixel of the result.

        Where several fall onto one pixel the closest one stays; pixels without any become 0.
        """
        rows, columns = np.nonzero(depth > 0)
        x = (columns + 0.5) * source_size[0] / depth.shape[1]
        y = (rows + 0.5) * source_size[1] / depth.shape[0]
        u = np.floor((x - self.left) * self.out_width / self.width).astype(int)
        v = np.floor((y - self.top) * self.out_height / self.height).astype(int)
        inside = (u >= 0) & (u < self.out_width) & (v >= 0) & (v < self.out_height)
        return scatter_closest(
            u[inside],
            v[inside],
            depth[rows, columns][inside],
            (self.out_height, self.out_width),
        )


def scatter_closest(u: NDArray, v: NDArray, depth: NDArray, shape: tuple[int, int]) -> NDArray:
    """Write depths `(N,)` at integer pixels into an `(H, W)` map; the closest wins, 0 is empty."""
    result = np.full(shape, np.inf, dtype=np.float32)
    np.minimum.at(result, (v, u), depth.astype(np.float32))
    return np.where(np.isfinite(result), result, 0).astype(np.float32)


def largest_window(
    size: tuple[int, int],
    principal_point: tuple[float, float] | None,
    out_size: tuple[int, int],
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.5, 0.5),
) -> Window:
    """Find the largest window of the wanted shape.

    Args:
        size: (width, height) of the source.
        principal_point: (u, v) that shall come to lie at the centre of the result; None to
            take the largest window anywhere, where `shift` says.
        out_size: (width, height) of the result.
        zoom: Narrow the window by this factor (at least 1).
        shift: Without a principal point, the window's place in the room that is left, 0 for left
            or top, 1 for right or bottom.

    Raises:
        ValueError: If the principal point is so far from the middle that a centred window would
            show less than a quarter of what an uncentred one shows.
    """
    width, height = size
    aspect = out_size[0] / out_size[1]
    full_width = min(width, height * aspect)
    if principal_point is None:
        box = full_width / zoom
        left, top = (width - box) * shift[0], (height - box / aspect) * shift[1]
        return Window(left, top, box, box / aspect, *out_size)
    x, y = principal_point[0] + 0.5, principal_point[1] + 0.5
    box = min(2 * min(x, width - x), 2 * min(y, height - y) * aspect)
    if box < full_width / 2:
        raise ValueError(
            f"The principal point {principal_point} is too far from the middle of the {width}x"
            f'{height} image to crop around it; use crop="keep", which leaves it where it is.'
        )
    box /= zoom
    return Window(x - box / 2, y - box / aspect / 2, box, box / aspect, *out_size)
