"""Camera trajectories in TUM format, which evo and others read."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ...files import atomic_path
from ..scene import Scene


def write_tum(
    scene: Scene, path: str | os.PathLike[str], timestamps: Sequence[float] | None = None
) -> None:
    """Write the cam2world poses, one line a camera: `time tx ty tz qx qy qz qw`.

    Args:
        scene: The scene.
        path: The text file.
        timestamps: Seconds, increasing, one a camera. By default `scene.info["timestamps"]` where
            the reconstruction knows them (video), otherwise 0, 1, 2, ...

    Raises:
        ValueError: If there is not one timestamp a camera, or they do not increase.
    """
    times = timestamps if timestamps is not None else scene.info.get("timestamps")
    times = np.arange(len(scene)) if times is None else np.asarray(times, dtype=np.float64)
    if len(times) != len(scene):
        raise ValueError(f"Got {len(times)} timestamps for {len(scene)} cameras.")
    if (np.diff(times) <= 0).any():
        raise ValueError("Timestamps of a trajectory must increase from camera to camera.")
    poses = np.stack([c.cam2world.double().cpu().numpy() for c in scene.cameras])
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    rows = np.concatenate([poses[:, :3, 3], quaternions], axis=1)
    with atomic_path(path) as temporary:
        lines = [
            " ".join([f"{time:.6f}", *(f"{value:.9g}" for value in row)])
            for time, row in zip(times, rows, strict=True)
        ]
        temporary.write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(lines) + "\n")
