"""The photographs that go with an export, upright and at their own resolution."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ...images import read_frames, split_origin
from ..scene import Scene
from ..tracks import sample_depth, to_network

logger = logging.getLogger(__name__)

_COPIED = {".jpg", ".jpeg", ".png"}
_ORIENTATION = 0x0112


def file_names(scene: Scene) -> list[str]:
    """A file name for each image: its own where possible, unique, in a format all tools read."""
    names: list[str] = []
    taken: set[str] = set()
    for index, name in enumerate(scene.names):
        stem = Path(name.replace("\\", "/")).stem or f"image_{index:03d}"
        path = scene.paths[index]
        suffix = ".png" if path is None else Path(path).suffix
        if suffix.lower() not in _COPIED:
            suffix = ".jpg"
        unique = f"{stem}{suffix}"
        while unique.lower() in taken:
            stem = f"{stem}_{index}"
            unique = f"{stem}{suffix}"
        taken.add(unique.lower())
        names.append(unique)
    return names


def write_photographs(scene: Scene, folder: Path) -> None:
    """Write each image's photograph into a folder under its name of `file_names`.

    Files are copied byte by byte, unless their orientation is a tag (which the readers of these
    exports ignore) or their format is unusual; frames of a video are decoded again. Where there is
    no file, the image that the network saw is enlarged.

    Args:
        scene: The scene.
        folder: An existing folder.

    Raises:
        ValueError: If a photograph has changed its size since the reconstruction.
    """
    missing: list[str] = []
    frames: dict[Path, list[tuple[int, int]]] = {}
    for index, name in enumerate(file_names(scene)):
        source, number = split_origin(scene.paths[index] or "")
        if not source.is_file():
            missing.append(scene.names[index])
            Image.fromarray(_enlarged(scene, index)).save(folder / name, quality=95)
        elif number is None:
            _copy(source, folder / name, _size(scene, index))
        else:
            frames.setdefault(source, []).append((number, index))
    for video, numbers in frames.items():
        _write_frames(scene, video, sorted(numbers), folder)
    if missing:
        logger.warning(
            "Photographs that are not at hand were enlarged from what the network saw: %s.",
            ", ".join(missing),
        )


def _size(scene: Scene, index: int) -> tuple[int, int]:
    return scene.cameras[index].width, scene.cameras[index].height


def _write_frames(scene: Scene, video: Path, numbers: list[tuple[int, int]], folder: Path) -> None:
    """Write frames of a video, given as (number, image), at their own resolution."""
    names = file_names(scene)
    frames = read_frames(video, [number for number, _ in numbers])
    for (number, index), frame in zip(numbers, frames, strict=True):
        picture = Image.fromarray(frame)
        _check_size(f"Frame {number} of {video}", picture, _size(scene, index))
        picture.save(folder / names[index], quality=95, subsampling=0)


def _check_size(what: str, picture: Image.Image, size: tuple[int, int]) -> None:
    if picture.size != size:
        raise ValueError(
            f"{what} is {picture.size[0]} x {picture.size[1]} pixels, but was {size[0]} x "
            f"{size[1]} when the scene was reconstructed: restore it, or reconstruct again."
        )


def _copy(source: Path, target: Path, size: tuple[int, int]) -> None:
    with Image.open(source) as image:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        upright = ImageOps.exif_transpose(image) if turned else image
        _check_size(str(source), upright, size)
        if not turned and source.suffix.lower() in _COPIED:
            shutil.copyfile(source, target)
        else:
            upright.convert("RGB").save(target, quality=95, subsampling=0)


def _enlarged(scene: Scene, index: int) -> NDArray:
    matrix = scene.pixel_to_original[index].double().numpy()
    camera = scene.cameras[index]
    image = np.ascontiguousarray(scene.images[index].numpy())
    return cv2.warpPerspective(
        image, matrix, (camera.width, camera.height), flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def depth_in_photograph(scene: Scene, index: int, mask: Tensor) -> NDArray[np.float32]:
    """The depth map of an image in its photograph's pixels.

    Args:
        scene: The scene.
        index: The image.
        mask: `(H, W)` bool, the pixels to trust.

    Returns:
        `(height, width)` float32, interpolated between trusted pixels; 0 where most of the
        interpolation is not trusted, or the map has no pixel.
    """
    camera = scene.cameras[index]
    rows, columns = torch.meshgrid(
        torch.arange(camera.height), torch.arange(camera.width), indexing="ij"
    )
    pixels = to_network(scene, index, torch.stack([columns, rows], -1).flatten(0, 1))
    depth, trusted = sample_depth(scene.depthmaps[index], mask, pixels)
    last = pixels.new_tensor([mask.shape[1] - 0.5, mask.shape[0] - 0.5])
    usable = (trusted > 0.5) & (pixels > -0.5).all(-1) & (pixels < last).all(-1)
    return torch.where(usable, depth, 0.0).float().view(camera.height, camera.width).numpy()
