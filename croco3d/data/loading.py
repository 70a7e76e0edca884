"""Opening what frames name: colours, depth, masks; checking cameras; undoing lens distortion."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import ImageError, load_image
from .depth_files import load_depth
from .frames import ArraySource, Frame
from .windows import Window, scatter_closest

_ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class LoadedFrame:
    """A frame in memory, as a pinhole camera sees it.

    Attributes:
        image: `(H, W, 3)` uint8.
        depth: `(h, w)` float32 z-depth in world units, 0 where unknown.
        intrinsics: `(3, 3)` float64, in pixels of the image.
        cam2world: `(4, 4)` float64.
        name: From the frame.
        sparse_depth: From the frame.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    cam2world: NDArray[np.float64]
    name: str
    sparse_depth: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image."""
        return self.image.shape[1], self.image.shape[0]

    def mirrored(self) -> "LoadedFrame":
        """What this camera's mirror image sees of the scene mirrored in the world's x."""
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        intrinsics = self.intrinsics.copy()
        intrinsics[0, 1] *= -1
        intrinsics[0, 2] = self.size[0] - 1 - intrinsics[0, 2]
        return replace(
            self,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            depth=np.ascontiguousarray(self.depth[:, ::-1]),
            intrinsics=intrinsics,
            cam2world=flip @ self.cam2world @ flip,
        )


def load_frame(frame: Frame) -> LoadedFrame:
    """Open a frame's files, check its camera, and undo lens distortion.

    Raises:
        ValueError: If a file is missing or damaged, the camera is not one, or sizes disagree.
    """
    intrinsics, cam2world = check_camera(frame)
    image = load_pixels(frame.image)
    intrinsics = _fit_to_image(frame, intrinsics, image.shape)
    depth = load_depth(frame.depth).astype(np.float32) * np.float32(frame.depth_scale)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0
    if frame.max_depth is not None:
        depth[depth > frame.max_depth] = 0
    _check_shape(frame.name, "depth", depth.shape, image.shape)
    if frame.mask is not None:
        mask = load_mask(frame.mask)
        _check_shape(frame.name, "mask", mask.shape, image.shape)
        depth[~_match_size(mask, depth.shape)] = 0
    if frame.distortion is not None and np.any(frame.distortion):
        image, depth, intrinsics = _undistort(frame, image, depth, intrinsics)
    return LoadedFrame(image, depth, intrinsics, cam2world, frame.name, frame.sparse_depth)


def check_camera(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give a frame's intrinsics and pose in float64.

    Raises:
        ValueError: If they are not finite, the focal lengths not positive, or the pose not rigid.
    """
    intrinsics = np.asarray(frame.intrinsics, dtype=np.float64)
    cam2world = np.asarray(frame.cam2world, dtype=np.float64)
    if intrinsics.shape != (3, 3) or cam2world.shape != (4, 4):
        raise ValueError(
            f"{frame.name}: intrinsics must be (3, 3) and the pose (4, 4), got {intrinsics.shape} "
            f"and {cam2world.shape}."
        )
    if not (np.isfinite(intrinsics).all() and np.isfinite(cam2world).all()):
        raise ValueError(f"{frame.name}: its intrinsics or pose hold NaN or infinity.")
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise ValueError(f"{frame.name}: focal lengths must be positive, got\n{intrinsics}")
    rotation = cam2world[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > 1e-2 or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{frame.name}: the pose is not rigid (R R^T is off the identity by {error:.3g}, "
            f"determinant {np.linalg.det(rotation):.3g}); it must be a rotation and a translation."
        )
    return intrinsics, cam2world


def load_pixels(source: ArraySource) -> NDArray[np.uint8]:
    """Open colours as `(H, W, 3)` uint8, pixels as they are stored.

    EXIF orientation is left alone, since calibration and depth speak of the stored pixels.
    """
    if not isinstance(source, str | Path):
        return load_image(source() if callable(source) else source)
    path = Path(source)
    if path.is_file() and path.stat().st_size:
        try:
            with Image.open(path) as image:
                if "exif" in image.info and image.getexif().get(_ORIENTATION, 1) != 1:
                    image.load()
                    image.getexif().clear()
                    return load_image(image, str(path))
        except Image.UnidentifiedImageError as error:
            raise ImageError(f"{path} is not an image in a known format.") from error
    return load_image(path)


def load_mask(source: ArraySource) -> NDArray[np.bool_]:
    """Open a mask `(h, w)`: nonzero is valid, or over 127 where values beyond 1 occur."""
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".npy":
        source = np.load(source)
    if isinstance(source, str | Path):
        values: NDArray = load_pixels(source)[..., 0]
    else:
        values = np.asarray(source() if callable(source) else source)
    return np.asarray(values > (127 if values.max(initial=0) > 1 else 0))


def _check_shape(name: str, what: str, shape: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Refuse a map over another rectangle than the image; a pixel of rounding is let pass."""
    height, width = image[:2]
    if abs(shape[1] * height - shape[0] * width) > max(height, width, *shape):
        raise ValueError(
            f"{name}: the {what} is {shape[1]}x{shape[0]} and the image {width}x{height}; "
            "they must show the same rectangle (is one of them rotated or cropped?)."
        )


def _fit_to_image(frame: Frame, intrinsics: NDArray, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Scale intrinsics from the size that they were calibrated for to the stored image's."""
    if frame.size is None or frame.size == (shape[1], shape[0]):
        return intrinsics
    _check_shape(frame.name, "calibrated size", (frame.size[1], frame.size[0]), shape)
    return Window(0, 0, *frame.size, shape[1], shape[0]).matrix() @ intrinsics


def _match_size(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape == shape:
        return mask
    size = (shape[1], shape[0])
    resized = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return resized.astype(bool)


def _undistort(
    frame: Frame, image: NDArray[np.uint8], depth: NDArray[np.float32], intrinsics: NDArray
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]]:
    """Resample to the largest pinhole image without empty borders."""
    size = (image.shape[1], image.shape[0])
    lens = np.asarray(frame.distortion, dtype=np.float64)
    if frame.fisheye:
        pinhole = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            intrinsics, lens, size, np.eye(3), balance=0.0
        )
        maps = cv2.fisheye.initUndistortRectifyMap(
            intrinsics, lens, np.eye(3), pinhole, size, cv2.CV_32FC1
        )
    else:
        pinhole = cv2.getOptimalNewCameraMatrix(intrinsics, lens, size, alpha=0)[0]
        maps = cv2.initUndistortRectifyMap(intrinsics, lens, np.eye(3), pinhole, size, cv2.CV_32FC1)
    straight = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if frame.sparse_depth:
        depth = _undistort_points(frame, depth, intrinsics, pinhole, size)
    else:
        scale_x, scale_y = depth.shape[1] / size[0], depth.shape[0] / size[1]
        columns, rows = (maps[0] + 0.5) * scale_x - 0.5, (maps[1] + 0.5) * scale_y - 0.5
        sampled = cv2.remap(depth, columns, rows, cv2.INTER_NEAREST, borderValue=0)
        depth = np.asarray(sampled, np.float32)
    return np.asarray(straight, np.uint8), depth, np.asarray(pinhole, np.float64)


def _undistort_points(
    frame: Frame,
    depth: NDArray[np.float32],
    intrinsics: NDArray,
    pinhole: NDArray,
    size: tuple[int, int],
) -> NDArray[np.float32]:
    rows, columns = np.nonzero(depth)
    pixels = np.stack(
        (
            (columns + 0.5) * size[0] / depth.shape[1] - 0.5,
            (rows + 0.5) * size[1] / depth.shape[0] - 0.5,
        ),
        axis=-1,
    )[:, None]
    undistort = cv2.fisheye.undistortPoints if frame.fisheye else cv2.undistortPoints
    moved = undistort(pixels, intrinsics, np.asarray(frame.distortion, np.float64), P=pinhole)[:, 0]
    u, v = np.rint(moved).astype(int).T
    inside = (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1])
    values = depth[rows, columns]
    return scatter_closest(u[inside], v[inside], values[inside], (size[1], size[0]))
