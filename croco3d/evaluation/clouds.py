"""Errors of point clouds."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor


@dataclass(frozen=True)
class CloudError:
    """Distances between two point clouds, in their unit.

    Attributes:
        accuracy: mean distance from a predicted point to the nearest true one.
        completeness: mean distance from a true point to the nearest predicted one.
        chamfer: mean of both.
        f_score: harmonic mean of the shares of either within the threshold.
    """

    accuracy: float
    completeness: float
    chamfer: float
    f_score: float


def cloud_error(
    predicted: Tensor, true: Tensor, threshold: float, max_points: int = 20_000, seed: int = 0
) -> CloudError:
    """Compare two point clouds in one frame and scale.

    Args:
        predicted: `(N, 3)`.
        true: `(M, 3)`.
        threshold: what counts as right for the F-score, in the clouds' unit.
        max_points: larger clouds are thinned to that many random points (drawn with `seed`).
        seed: of that choice.

    Returns:
        NaN where a cloud is empty.

    >>> cloud = torch.rand(50, 3)
    >>> cloud_error(cloud, cloud, threshold=0.01).f_score
    1.0
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}.")
    first, second = (_thin(points, max_points, seed) for points in (predicted, true))
    if not len(first) or not len(second):
        return CloudError(*[float("nan")] * 4)
    to_true = np.asarray(KDTree(second).query(first)[0])
    to_predicted = np.asarray(KDTree(first).query(second)[0])
    precision, recall = (to_true < threshold).mean(), (to_predicted < threshold).mean()
    f_score = 2 * precision * recall / max(precision + recall, 1e-12)
    accuracy, completeness = float(to_true.mean()), float(to_predicted.mean())
    return CloudError(accuracy, completeness, (accuracy + completeness) / 2, float(f_score))


def _thin(points: Tensor, max_points: int, seed: int) -> np.ndarray:
    points = points.detach().cpu()
    if len(points) > max_points:
        generator = torch.Generator().manual_seed(seed)
        points = points[torch.randperm(len(points), generator=generator)[:max_points]]
    return points.double().numpy()
