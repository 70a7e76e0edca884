"""Depth maps in the usual file formats.

By suffix: `.png`, `.tif` (16-bit integers or float), `.npy`, `.npz` (one array, or one called
`depth`), `.pfm`, `.exr` (package OpenEXR), `.h5` (data set `depth`, package h5py) and COLMAP's
dense `.bin`. `pip install 'croco3d[data]'` brings those packages.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .frames import ArraySource


def load_depth(source: ArraySource) -> NDArray:
    """Open a depth map `(h, w)` in stored units.

    Raises:
        ValueError: If the format is unknown, or the file is damaged or does not hold one map.
    """
    if not isinstance(source, str | Path):
        depth = np.asarray(source() if callable(source) else source)
        return _one_map(depth, "the depth array")
    path = Path(source)
    reader = _DEPTH_READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_DEPTH_READERS)
        raise ValueError(f"{path}: depth in {path.suffix!r} is not known; known are {known}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return _one_map(_decoded(reader, path), str(path))


def _decoded(reader: Callable[[Path], NDArray], path: Path) -> NDArray:
    """Name the file where a decoder fails: each has its own errors, few of which say which file."""
    try:
        return reader(path)
    except ImportError:
        raise
    except Exception as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged or no depth map: {error}") from error


def _one_map(depth: NDArray, name: str) -> NDArray:
    depth = depth[..., 0] if depth.ndim == 3 and depth.shape[2] == 1 else depth
    if depth.ndim != 2 or 0 in depth.shape:
        raise ValueError(f"{name} has shape {depth.shape}; a depth map is (height, width).")
    return depth


def _read_png(path: Path) -> NDArray:
    with Image.open(path) as image:
        if image.mode not in ("I;16", "I;16B", "I;16L", "I", "F", "L"):
            raise ValueError(f"{path} is a colour image ({image.mode}), not a depth map.")
        return np.array(image)


def _read_npz(path: Path) -> NDArray:
    with np.load(path) as arrays:
        if "depth" in arrays:
            return arrays["depth"]
        if len(arrays.files) == 1:
            return arrays[arrays.files[0]]
        raise ValueError(f"{path} holds {arrays.files}; name the depth map 'depth'.")


def _read_exr(path: Path) -> NDArray:
    try:
        import OpenEXR
    except ImportError as error:
        raise ImportError(f"{path}: reading EXR needs `pip install 'croco3d[data]'`.") from error
    with OpenEXR.File(str(path)) as file:
        channels = file.channels()
        for name in ("Y", "Z", "depth.V", "V", "R", "RGB", "RGBA"):
            if name in channels:
                pixels = channels[name].pixels
                return np.array(pixels if pixels.ndim == 2 else pixels[..., 0])
    raise ValueError(f"{path} has the channels {sorted(channels)}; none is known as depth.")


def _read_h5(path: Path) -> NDArray:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: reading HDF5 needs `pip install 'croco3d[data]'`.") from error
    with h5py.File(path) as file:
        return np.array(file["depth"])


def read_pfm(path: Path) -> NDArray[np.float32]:
    """Read a grey portable float map; its rows are stored from the bottom up."""
    with open(path, "rb") as file:
        kind, size, scale = (_header_line(file) for _ in range(3))
        if kind != b"Pf":
            raise ValueError(f"{path} is not a grey PFM file (it begins with {kind!r}).")
        width, height = (int(value) for value in size.split())
        order = "<f4" if float(scale) < 0 else ">f4"
        data = file.read()
    if len(data) != width * height * 4:
        raise ValueError(f"{path} is cut short: {len(data)} bytes for {width}x{height} floats.")
    return np.frombuffer(data, order).reshape(height, width)[::-1].astype(np.float32)


def _header_line(file: BinaryIO) -> bytes:
    line = file.readline().strip()
    while line.startswith(b"#"):
        line = file.readline().strip()
    return line


def _read_colmap_map(path: Path) -> NDArray[np.float32]:
    """Read COLMAP's dense map: `width&height&channels&`, then floats in column order."""
    data = path.read_bytes()
    fields = data.split(b"&", 3)
    if len(fields) != 4:
        raise ValueError(f"{path} is not a COLMAP depth map.")
    width, height, channels = (int(value) for value in fields[:3])
    if len(fields[3]) != width * height * channels * 4:
        raise ValueError(f"{path} is cut short: {len(fields[3])} bytes for {width}x{height}.")
    return np.frombuffer(fields[3], "<f4").reshape(channels, height, width)[0]


_DEPTH_READERS: dict[str, Callable[[Path], NDArray]] = {
    ".png": _read_png,
    ".tif": _read_png,
    ".tiff": _read_png,
    ".npy": np.load,
    ".npz": _read_npz,
    ".pfm": read_pfm,
    ".exr": _read_exr,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".bin": _read_colmap_map,
}
