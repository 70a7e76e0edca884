"""ARKitScenes: rooms filmed with a tablet's depth sensor, and scanned by laser."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from ..frames import Frame, PairSource
from ..pairing import pairs_by_order
from ..registry import READERS
from .common import Scene, camera_matrix, inverse_rigid, join_scenes, require, rigid, subfolders

# The authors' own loader accepts time stamps that differ by up to 5 ms.
_TOLERANCE = 0.005


@READERS.register("arkitscenes")
def arkitscenes(
    root: str | Path,
    split: Literal["Training", "Validation"] = "Training",
    videos: Sequence[str] | None = None,
    images: Literal["lowres_wide", "vga_wide", "wide"] = "vga_wide",
    depths: Literal["lowres_depth", "highres_depth"] = "lowres_depth",
    min_confidence: int = 2,
    every: int = 1,
    strides: Sequence[int] = (3, 6, 10, 15),
) -> PairSource:
    """Read the raw ARKitScenes; frames of a video pair up at the given strides.

    Download: github.com/apple/ARKitScenes, `download_data.py raw ...`. Layout (its `DATA.md` and
    `raw/README.md`): `<split>/<video>/` with `<asset>/<video>_<time>.png`,
    `<asset>_intrinsics/<video>_<time>.pincam` (width, height, focal lengths, principal point),
    `lowres_depth` and `highres_depth` (16 bit, millimetres), `confidence` (0 to 2) and
    `lowres_wide.traj` (time, rotation vector, translation; world to camera). A frame is used if it
    has depth, intrinsics and a pose of the same time within 5 ms.

    Licence: Apple's own, for non-commercial research; read it before training.

    Args:
        root: The folder of splits.
        split: Which one.
        videos: Which ones; None for all that are there.
        images: Which pictures: 256x192, 640x480 or 1920x1440.
        depths: Sensor depth (256x192), or depth projected from the laser scan (1920x1440).
        min_confidence: Sensor depth of less confidence is invalid; 0 keeps all.
        every: Take one frame in so many.
        strides: Distances of pairs, in frames taken.
    """
    folders = subfolders(Path(root) / split, videos, "ARKitScenes videos")

    def read(folder: Path) -> Scene:
        trajectory = np.loadtxt(
            require(folder / "lowres_wide.traj", "ARKitScenes' trajectory"), ndmin=2
        )
        assets = {
            "image": _by_time(folder / images, ".png"),
            "camera": _by_time(folder / f"{images}_intrinsics", ".pincam"),
            "depth": _by_time(folder / depths, ".png"),
        }
        frames = []
        for time, image in sorted(assets["image"].items())[::every]:
            camera, depth = _nearest(assets["camera"], time), _nearest(assets["depth"], time)
            line = trajectory[np.abs(trajectory[:, 0] - time).argmin()]
            if camera and depth and abs(line[0] - time) <= _TOLERANCE:
                confidence = folder / "confidence" / depth.name
                sensor = depths == "lowres_depth" and min_confidence > 0
                mask = partial(_confident, confidence, min_confidence) if sensor else None
                frames.append(_frame(image, depth, camera, line, mask))
        return frames, pairs_by_order(len(frames), strides)

    return join_scenes("arkitscenes", folders, read)


def _frame(image: Path, depth: Path, camera: Path, line: NDArray, mask: partial | None) -> Frame:
    width, height, fx, fy, cx, cy = np.loadtxt(camera)
    rotation = Rotation.from_rotvec(line[1:4]).as_matrix()
    return Frame(
        image=image,
        depth=depth,
        intrinsics=camera_matrix(fx, fy, cx, cy),
        cam2world=inverse_rigid(rigid(rotation, line[4:7])),
        name=f"{image.parent.parent.name}/{image.parent.name}/{image.name}",
        depth_scale=1e-3,
        mask=mask,
        size=(int(width), int(height)),
    )


def _by_time(folder: Path, suffix: str) -> dict[float, Path]:
    require(folder, "an asset of ARKitScenes")
    return {float(path.stem.split("_")[-1]): path for path in folder.glob(f"*{suffix}")}


def _nearest(files: dict[float, Path], time: float) -> Path | None:
    for step in (0.0, -0.001, 0.001):
        path = files.get(round(time + step, 3))
        if path is not None:
            return path
    closest = min(files, key=lambda other: abs(other - time), default=None)
    return files[closest] if closest is not None and abs(closest - time) <= _TOLERANCE else None


def _confident(path: Path, minimum: int) -> NDArray[np.bool_]:
    with Image.open(path) as image:
        return np.array(image) >= minimum
