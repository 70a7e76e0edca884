"""Initial Gaussians in the PLY layout of 3-D Gaussian splatting (Kerbl et al. 2023)."""

from __future__ import annotations

import os

import numpy as np
from scipy.spatial import KDTree

from ..fusion import PointCloud
from .ply import write_vertices

# The zeroth spherical harmonic: a colour c in [0, 1] is stored as (c - 0.5) / SH0.
_SH0 = 0.28209479177387814


def write_gaussians(
    cloud: PointCloud, path: str | os.PathLike[str], *, opacity: float = 0.9
) -> None:
    """Write one round Gaussian a point, its deviation half the distance to its neighbours.

    Splat viewers show the file at once, and trainers start from it. Scales are stored as
    logarithms, opacities as logits, rotations as (w, x, y, z), colours as the zeroth harmonic.

    Args:
        cloud: The points, world frame.
        path: The `.ply` file.
        opacity: Of every Gaussian, between 0 and 1.

    Raises:
        ValueError: If the opacity is out of range, or there are fewer than four points.
    """
    if not 0 < opacity < 1:
        raise ValueError(f"opacity must lie between 0 and 1, got {opacity}.")
    if len(cloud) < 4:
        raise ValueError(
            f"Gaussians are sized by their neighbours, but the cloud has only {len(cloud)} points."
        )
    distances = KDTree(cloud.points).query(cloud.points, k=4)[0][:, 1:]
    spacing = np.sqrt((distances**2).mean(axis=1))
    spacing = np.maximum(spacing, 1e-3 * max(float(np.median(spacing)), 1e-12))
    harmonics = (cloud.colors / 255.0 - 0.5) / _SH0
    columns = {axis: cloud.points[:, k] for k, axis in enumerate("xyz")}
    columns |= {f"n{axis}": np.zeros(len(cloud)) for axis in "xyz"}
    columns |= {f"f_dc_{k}": harmonics[:, k] for k in range(3)}
    columns |= {"opacity": np.full(len(cloud), np.log(opacity / (1 - opacity)))}
    columns |= {f"scale_{k}": np.log(spacing / 2) for k in range(3)}
    columns |= {f"rot_{k}": np.full(len(cloud), float(k == 0)) for k in range(4)}
    vertices = np.empty(len(cloud), [(name, "<f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    write_vertices(vertices, path)
