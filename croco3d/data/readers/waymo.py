"""Waymo Open Dataset, version 2 (Parquet): street scenes with lidar.

Sources: the data set's own component definitions, `waymo_open_dataset/v2/perception` (columns,
frames of reference), and the range image's geometry as its v1 documentation gives it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from ..frames import Frame, PairSource
from ..pairing import Pairs, pairs_by_order
from ..registry import READERS
from ..windows import scatter_closest
from .common import Scene, camera_matrix, inverse_rigid, join_scenes, require

_CAMERAS = {"front": 1, "front_left": 2, "front_right": 3, "side_left": 4, "side_right": 5}
_TOP_LASER = 1

# Waymo's cameras look along x with y to the left and z up: a point of ours into that frame.
_AXES = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

_TIME, _CAMERA, _LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"


@READERS.register("waymo")
def waymo(
    root: str | Path,
    segments: Sequence[str] | None = None,
    cameras: Sequence[str] = ("front", "front_left", "front_right"),
    strides: Sequence[int] = (2, 5, 10),
    max_depth: float | None = None,
) -> PairSource:
    """Read Waymo's Parquet files; pictures of one camera pair up at the given strides.

    Download: waymo.com/open, the Perception data set in version 2, one split: `camera_image`,
    `camera_calibration`, `lidar`, `lidar_calibration`, `lidar_pose`, `lidar_camera_projection` and
    `vehicle_pose`, each with `<segment>.parquet`. Needs pyarrow.

    Depth is the first return of the top lidar where it projects into the picture by the data set's
    own projection, which knows of the rolling shutter; it is sparse. Lens distortion is undone
    when loading. The world frame's origin is the segment's first pose, since float32 would round
    global coordinates to centimetres. Moving objects are not removed.

    Licence: Waymo's own, for non-commercial use; read it before training.

    Args:
        root: The folder of one split, which holds those seven folders.
        segments: Which ones; None for all that are there.
        cameras: Which ones of front, front_left, front_right, side_left and side_right.
        strides: Distances of pairs, in pictures (a tenth of a second each).
        max_depth: Depths beyond are invalid, in metres.
    """
    root = Path(root)
    unknown = sorted(set(cameras) - set(_CAMERAS))
    if unknown:
        raise ValueError(f"Waymo has no camera {unknown[0]!r}; known are {', '.join(_CAMERAS)}.")
    folder = require(root / "camera_image", "Waymo's pictures")
    files = sorted(folder.glob("*.parquet"))
    if segments is not None:
        files = [require(folder / f"{segment}.parquet", "a segment") for segment in segments]
    numbers = [_CAMERAS[camera] for camera in cameras]

    def read(file: Path) -> Scene:
        return _segment(root, file.stem, numbers, strides, max_depth)

    return join_scenes("waymo", files, read)


@dataclass(frozen=True)
class _Moment:
    """What finds one picture and its lidar sweep again, and its camera in the global frame."""

    root: Path
    segment: str
    time: int
    camera: int
    size: tuple[int, int]
    cam2global: NDArray[np.float64]

    def image(self) -> NDArray[np.uint8]:
        """Decode the picture."""
        where = [(_TIME, "=", self.time), (_CAMERA, "=", self.camera)]
        column = "[CameraImageComponent].image"
        row = _rows(self.root, "camera_image", self.segment, [column], where)[0]
        with Image.open(io.BytesIO(row[column])) as image:
            return np.array(image.convert("RGB"))

    def depth(self) -> NDArray[np.float32]:
        """Draw the top lidar's points into the picture."""
        prefix = "[LiDARCameraProjectionComponent].range_image_return1"
        projection = _range_image(self, "lidar_camera_projection", prefix)
        points, measured = _lidar_points(self)
        world2cam = inverse_rigid(self.cam2global)
        z = points @ world2cam[2, :3] + world2cam[2, 3]
        depth = np.zeros((self.size[1], self.size[0]), np.float32)
        for first in (0, 3):
            # Pixel 0 of a projection begins at the left edge of the picture.
            u = np.floor(projection[..., first + 1]).astype(int)
            v = np.floor(projection[..., first + 2]).astype(int)
            seen = measured & (projection[..., first] == self.camera) & (z > 0)
            seen &= (u >= 0) & (u < self.size[0]) & (v >= 0) & (v < self.size[1])
            drawn = scatter_closest(u[seen], v[seen], z[seen], depth.shape)
            depth = np.where(depth > 0, depth, drawn)
        return depth


def _segment(
    root: Path, segment: str, cameras: list[int], strides: Sequence[int], max_depth: float | None
) -> Scene:
    pose = "[CameraImageComponent].pose.transform"
    rows = _rows(root, "camera_image", segment, [_TIME, _CAMERA, pose])
    calibrations = {row[_CAMERA]: row for row in _rows(root, "camera_calibration", segment)}
    rows = sorted((row for row in rows if row[_CAMERA] in cameras), key=lambda row: row[_TIME])
    if not rows:
        return [], np.zeros((0, 2), dtype=np.int64)
    origin = np.array(rows[0][pose]).reshape(4, 4)[:3, 3]
    frames: list[Frame] = []
    parts: list[Pairs] = []
    for camera in cameras:
        own = [row for row in rows if row[_CAMERA] == camera]
        parts.append(pairs_by_order(len(own), strides) + len(frames))
        for row in own:
            vehicle = np.array(row[pose]).reshape(4, 4)
            frames.append(
                _frame(root, segment, row[_TIME], calibrations[camera], vehicle, origin, max_depth)
            )
    return frames, np.concatenate(parts)


def _frame(
    root: Path,
    segment: str,
    time: int,
    calibration: dict[str, Any],
    vehicle: NDArray,
    origin: NDArray,
    max_depth: float | None,
) -> Frame:
    def value(name: str) -> Any:
        return calibration[f"[CameraCalibrationComponent].{name}"]

    size = (int(value("width")), int(value("height")))
    extrinsic = np.array(value("extrinsic.transform")).reshape(4, 4)
    cam2global = vehicle @ extrinsic @ _AXES
    camera = int(calibration[_CAMERA])
    moment = _Moment(root, segment, time, camera, size, cam2global)
    cam2world = cam2global.copy()
    cam2world[:3, 3] -= origin
    lens = [value(f"intrinsic.{name}") for name in ("k1", "k2", "p1", "p2", "k3")]
    focal_and_centre = [value(f"intrinsic.{name}") for name in ("f_u", "f_v", "c_u", "c_v")]
    intrinsics = camera_matrix(*focal_and_centre)
    intrinsics[:2, 2] -= 0.5
    return Frame(
        image=partial(_Moment.image, moment),
        depth=partial(_Moment.depth, moment),
        intrinsics=intrinsics,
        cam2world=cam2world,
        name=f"{segment}/{time}/{camera}",
        distortion=np.array(lens),
        sparse_depth=True,
        max_depth=max_depth,
    )


def _rows(
    root: Path,
    component: str,
    segment: str,
    columns: list[str] | None = None,
    where: list[tuple[str, str, Any]] | None = None,
) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError("Reading Waymo needs `pip install 'croco3d[data]'`.") from error
    path = require(root / component / f"{segment}.parquet", f"Waymo's {component}")
    rows = parquet.read_table(path, columns=columns, filters=where).to_pylist()
    if not rows:
        raise ValueError(f"{path} has no row where {where or 'anything'}.")
    return rows


def _range_image(moment: _Moment, component: str, prefix: str) -> NDArray[np.float32]:
    where = [(_TIME, "=", moment.time), (_LASER, "=", _TOP_LASER)]
    columns = [f"{prefix}.values", f"{prefix}.shape"]
    row = _rows(moment.root, component, moment.segment, columns, where)[0]
    return np.array(row[columns[0]], dtype=np.float32).reshape(row[columns[1]])


def _lidar_points(moment: _Moment) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the top lidar's points `(H, W, 3)` in the global frame, and where it measured any."""
    returns = _range_image(moment, "lidar", "[LiDARComponent].range_image_return1")
    poses = _range_image(moment, "lidar_pose", "[LiDARPoseComponent].range_image_return1")
    where = [(_LASER, "=", _TOP_LASER)]
    row = _rows(moment.root, "lidar_calibration", moment.segment, None, where)[0]
    extrinsic = np.array(row["[LiDARCalibrationComponent].extrinsic.transform"]).reshape(4, 4)
    inclination = _inclinations(row, len(returns))[:, None]
    width = returns.shape[1]
    # Columns run from azimuth pi down to -pi, turned by the lidar's own yaw.
    turn = np.arctan2(extrinsic[1, 0], extrinsic[0, 0])
    azimuth = (2 * (np.arange(width, 0, -1) - 0.5) / width - 1) * np.pi - turn
    level = np.cos(inclination)
    directions = np.stack(
        np.broadcast_arrays(np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(inclination)),
        axis=-1,
    )
    vehicle = (returns[..., :1] * directions) @ extrinsic[:3, :3].T + extrinsic[:3, 3]
    # Every pixel has the vehicle's pose of its own time: roll, pitch, yaw, then the position.
    turns = Rotation.from_euler("ZYX", poses[..., 2::-1].reshape(-1, 3).astype(np.float64))
    points = turns.apply(vehicle.reshape(-1, 3)).reshape(vehicle.shape) + poses[..., 3:]
    return points, returns[..., 0] > 0


def _inclinations(row: dict[str, Any], height: int) -> NDArray[np.float64]:
    prefix = "[LiDARCalibrationComponent].beam_inclination"
    values = row.get(f"{prefix}.values")
    if values is None:
        low, high = row[f"{prefix}.min"], row[f"{prefix}.max"]
        values = low + (high - low) * (np.arange(height) + 0.5) / height
    return np.array(values, dtype=np.float64)[::-1]
