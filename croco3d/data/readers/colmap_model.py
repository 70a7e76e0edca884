"""COLMAP's sparse models, text and binary, without a dependency.

Formats: COLMAP's documentation, "Output Format". Its pixel centres lie at 0.5, ours at integers;
its poses are world to camera.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .common import camera_matrix, inverse_rigid, rigid

# Name, parameter count, how many of them are focal lengths, whether the lens model is a fisheye's.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3, 1, False),
    1: ("PINHOLE", 4, 2, False),
    2: ("SIMPLE_RADIAL", 4, 1, False),
    3: ("RADIAL", 5, 1, False),
    4: ("OPENCV", 8, 2, False),
    5: ("OPENCV_FISHEYE", 8, 2, True),
    6: ("FULL_OPENCV", 12, 2, False),
    8: ("SIMPLE_RADIAL_FISHEYE", 4, 1, True),
    9: ("RADIAL_FISHEYE", 5, 1, True),
}
_BY_NAME = {model[0]: model for model in _MODELS.values()}


@dataclass(frozen=True)
class ColmapCamera:
    """A camera of a model: (width, height), intrinsics `(3, 3)` (ours), OpenCV's distortion."""

    size: tuple[int, int]
    intrinsics: NDArray[np.float64]
    distortion: NDArray[np.float64] | None
    fisheye: bool


@dataclass(frozen=True)
class ColmapImage:
    """An image of a model: its pose `(4, 4)` and the identifiers of the points that it observes."""

    name: str
    camera_id: int
    cam2world: NDArray[np.float64]
    point_ids: NDArray[np.int64]


def read_colmap(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Read a sparse model, binary if there is one, else text.

    Returns:
        The cameras by identifier, and the images sorted by name.

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: If a camera model is not known, or a file is damaged.
    """
    if (folder / "images.bin").is_file() and (folder / "cameras.bin").is_file():
        with open(folder / "cameras.bin", "rb") as file:
            cameras = dict(_binary_cameras(file))
        with open(folder / "images.bin", "rb") as file:
            images = list(_binary_images(file))
    elif (folder / "images.txt").is_file() and (folder / "cameras.txt").is_file():
        cameras = dict(_text_cameras(folder / "cameras.txt"))
        images = list(_text_images(folder / "images.txt"))
    else:
        raise FileNotFoundError(
            f"{folder} holds no COLMAP model (cameras.bin and images.bin, or .txt)."
        )
    return cameras, sorted(images, key=lambda image: image.name)


def _camera(
    model: tuple[str, int, int, bool], size: tuple[int, int], params: NDArray
) -> ColmapCamera:
    name, count, focals, fisheye = model
    if len(params) != count:
        raise ValueError(f"A {name} camera has {count} parameters, got {len(params)}.")
    fx, fy = params[0], params[focals - 1]
    cx, cy = params[focals : focals + 2] - 0.5
    lens = params[focals + 2 :]
    if fisheye or len(lens) in (1, 2):
        # OpenCV wants four coefficients: further radial ones of a fisheye, tangential otherwise.
        lens = np.pad(lens, (0, 4 - len(lens))) if len(lens) else lens
    return ColmapCamera(
        size, camera_matrix(fx, fy, cx, cy), lens if np.any(lens) else None, fisheye
    )


def _pose(quaternion: NDArray, translation: NDArray) -> NDArray[np.float64]:
    rotation = Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
    return inverse_rigid(rigid(rotation, translation))


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                yield line.strip()


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in _lines(path):
        if line:
            number, name, width, height, *params = line.split()
            if name not in _BY_NAME:
                raise ValueError(f"{path}: camera model {name} is not known.")
            size = (int(width), int(height))
            yield int(number), _camera(_BY_NAME[name], size, np.array(params, dtype=np.float64))


def _text_images(path: Path) -> Iterator[ColmapImage]:
    # Points follow every image on a line of their own, which is empty if there are none.
    lines = _lines(path)
    for line in lines:
        if not line:
            continue
        _, *pose, camera, name = line.split(maxsplit=9)
        values = np.array(pose, dtype=np.float64)
        points = np.array(next(lines, "").split()[2::3], dtype=np.int64)
        yield ColmapImage(name, int(camera), _pose(values[:4], values[4:]), _seen(points))


def _seen(points: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(points[points != -1])


def _unpack(file: BinaryIO, layout: str) -> tuple:
    size = struct.calcsize("<" + layout)
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{file.name} is cut short.")
    return struct.unpack("<" + layout, data)


def _binary_cameras(file: BinaryIO) -> Iterator[tuple[int, ColmapCamera]]:
    for _ in range(_unpack(file, "Q")[0]):
        number, model, width, height = _unpack(file, "iiQQ")
        if model not in _MODELS:
            raise ValueError(f"{file.name}: camera model number {model} is not known.")
        params = np.array(_unpack(file, f"{_MODELS[model][1]}d"))
        yield number, _camera(_MODELS[model], (width, height), params)


def _binary_images(file: BinaryIO) -> Iterator[ColmapImage]:
    observation = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
    for _ in range(_unpack(file, "Q")[0]):
        _, *pose, camera = _unpack(file, "i7di")
        name = b"".join(iter(lambda: file.read(1) or b"\0", b"\0")).decode("utf-8")
        (count,) = _unpack(file, "Q")
        data = file.read(count * observation.itemsize)
        points = np.frombuffer(data, observation)["point"]
        values = np.array(pose)
        yield ColmapImage(name, camera, _pose(values[:4], values[4:]), _seen(points))
