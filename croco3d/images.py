"""Photographs as people have them: files, folders, videos and arrays, read as upright 8-bit RGB."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".avif", ".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


class ImageError(ValueError):
    """A photograph that cannot be used; the message is one sentence that names it."""


@dataclass(frozen=True)
class NamedImage:
    """A photograph that has not been read yet.

    Attributes:
        source: Where it is: a file, or its pixels.
        name: What messages and exported files call it.
        origin: The file it comes from, with `#frame=N` for a frame of a video; None for pixels of
            which nothing else is known.
        seconds: When it was taken, from the start of its video.
    """

    source: ImageSource
    name: str
    origin: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.origin is None:
            object.__setattr__(self, "origin", self.path)

    @property
    def path(self) -> str | None:
        """The file it comes from, if it comes from one."""
        return os.fspath(self.source) if isinstance(self.source, (str, os.PathLike)) else None


def load_image(source: ImageSource, name: str = "the image") -> np.ndarray:
    """Read a photograph as a person sees it.

    EXIF orientation is applied, transparency is laid over white, and greyscale, palette, CMYK and
    16-bit images become 8-bit RGB.

    Args:
        source: A file, a PIL image, an array `(H, W)` or `(H, W, C)`, or a tensor `(H, W)` or
            `(C, H, W)`. `C` is 1, 3 or 4; uint8, uint16, or floating point in [0, 1].
        name: What an error message calls an image that is not a file.

    Returns:
        uint8 RGB `(H, W, 3)`.

    Raises:
        ImageError: If there is no such file, or it is empty, cut short or no image.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        return np.array(_to_rgb(ImageOps.exif_transpose(source), name))
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu()
        return _array_to_rgb(
            (source.permute(1, 2, 0) if source.ndim == 3 else source).numpy(), name
        )
    if isinstance(source, np.ndarray):
        return _array_to_rgb(source, name)
    raise ImageError(
        f"An image must be a file, a PIL image, an array or a tensor, got {type(source).__name__}."
    )


def _read_file(path: Path) -> np.ndarray:
    if not path.is_file():
        what = "is a folder, not an image" if path.is_dir() else "does not exist"
        raise ImageError(f"{path} {what}.")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes).")
    if path.suffix.lower() in HEIF_SUFFIXES:
        _register_heif(path)
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(_to_rgb(image, str(path)))
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image in a known format.") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageError(f"{path} cannot be read, it may be cut short or damaged: {reason}.") from (
            error
        )


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            f"{path} is a HEIC photograph; install what reads it: pip install 'croco3d[heic]'."
        ) from error
    pillow_heif.register_heif_opener()


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any PIL mode to RGB without losing the meaning of its values."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind in "iu":
            # Pillow opens 16-bit greyscale as 32-bit integers in some formats.
            values = values.clip(0, 65535).astype(np.uint16)
        return Image.fromarray(_array_to_rgb(values, name))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _array_to_rgb(array: np.ndarray, name: str) -> np.ndarray:
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"{name} has shape {array.shape}; an array needs (height, width) or (height, width, "
            "1, 3 or 4 channels), a tensor (channels, height, width)."
        )
    array = _to_uint8(array, name)
    if array.shape[2] == 4:
        return np.array(_to_rgb(Image.fromarray(array), name))
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array)


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (0 <= low and high <= 1):
            raise ImageError(
                f"{name} has floating-point values from {low:g} to {high:g}; give values in "
                "[0, 1], or uint8."
            )
        return (array * 255).round().astype(np.uint8)
    raise ImageError(f"{name} has values of type {array.dtype}; give uint8, uint16 or float.")


def find_images(inputs: ImageSource | Iterable[ImageSource], every: int = 1) -> list[NamedImage]:
    """List the photographs that some files, folders, videos and arrays stand for, without reading.

    Args:
        inputs: Image files, folders of images (in the order of their names), videos, or images in
            memory.
        every: Take one frame in so many of a video.

    Returns:
        The photographs, each with a name of its own.

    Raises:
        ImageError: If a folder holds no image or a video cannot be read.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}.")
    if isinstance(inputs, (str, os.PathLike, Image.Image, np.ndarray, torch.Tensor)):
        inputs = [inputs]
    found: list[NamedImage] = []
    for source in inputs:
        if not isinstance(source, (str, os.PathLike)):
            found.append(NamedImage(source, f"image_{len(found):03d}"))
        elif Path(source).is_dir():
            found.extend(NamedImage(path, path.name) for path in _images_in(Path(source)))
        elif Path(source).suffix.lower() in VIDEO_SUFFIXES:
            found.extend(video_frames(source, every))
        else:
            found.append(NamedImage(source, Path(source).name))
    return _with_unique_names(found)


def _images_in(folder: Path) -> list[Path]:
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise ImageError(
            f"The folder {folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})."
        )
    return paths


def _with_unique_names(images: list[NamedImage]) -> list[NamedImage]:
    """Put the folder, and where that is not enough a number, before names that occur twice."""
    names = [image.name for image in images]
    taken: set[str] = set()
    unique = []
    for image in images:
        name = image.name
        if names.count(name) > 1 and image.path is not None:
            name = f"{Path(image.path).absolute().parent.name}_{name}"
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{number}_{name}", number + 1
        taken.add(candidate)
        unique.append(replace(image, name=candidate))
    return unique


def video_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[NamedImage]:
    """Decode one frame in `every` of a video.

    Args:
        path: The video file, in any format OpenCV reads.
        every: Take frames 0, `every`, 2 * `every`, ...

    Yields:
        Frames as uint8 RGB `(H, W, 3)`, upright, named by the video and the frame's number.

    Raises:
        ImageError: If the file is missing or holds no frame that can be decoded.
    """
    import cv2

    if not Path(path).is_file():
        raise ImageError(f"{path} does not exist.")
    capture = cv2.VideoCapture(os.fspath(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    try:
        number = 0
        while capture.grab():
            if number % every == 0:
                decoded, frame = capture.retrieve()
                if decoded:
                    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                    name = f"{Path(path).stem}_{number:06d}.png"
                    seconds = number / rate if rate > 0 else None
                    yield NamedImage(rgb, name, f"{os.fspath(path)}#frame={number}", seconds)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise ImageError(f"{path} is not a video that OpenCV can read.")


def split_origin(origin: str) -> tuple[Path, int | None]:
    """A file, and the number of the frame if it is a video; see `NamedImage.origin`.

    >>> split_origin("clip.mp4#frame=20")[1]
    20
    """
    path, mark, number = origin.rpartition("#frame=")
    return (Path(path), int(number)) if mark and number.isdigit() else (Path(origin), None)


def read_frames(path: str | os.PathLike[str], numbers: Iterable[int]) -> Iterator[np.ndarray]:
    """Decode some frames of a video again, one after the other.

    Args:
        path: The video file.
        numbers: Which frames, in increasing order.

    Yields:
        uint8 RGB `(H, W, 3)` each.

    Raises:
        ImageError: If the video has no such frame any more.
    """
    wanted = list(numbers)
    for frame in video_frames(path):
        if not wanted:
            return
        if split_origin(str(frame.origin))[1] == wanted[0]:
            assert isinstance(frame.source, np.ndarray)
            yield frame.source
            del wanted[0]
    if wanted:
        raise ImageError(f"{path} has no frame {wanted[0]} any more.")
