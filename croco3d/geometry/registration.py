"""Camera poses from 3-D points: PnP with RANSAC, and Procrustes between two pointmaps."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from croco3d.geometry.cameras import pixel_grid, project
from croco3d.geometry.poses import invert_pose
from croco3d.geometry.similarity import Similarity, fit_similarity

MIN_POINTS = 6


@dataclass(frozen=True)
class PnPResult:
    """A camera's pose, or why there is none.

    Attributes:
        success: whether a pose was found.
        cam2world: `(4, 4)` in the frame of the 3-D points; NaN without success.
        inliers: the points the pose agrees with, bool of the points' shape without the last
            dimension.
        error: median reprojection error of the inliers in pixels; NaN without success.
        reason: what was missing, empty after success.
    """

    success: bool
    cam2world: Tensor
    inliers: Tensor
    error: float
    reason: str = ""


def solve_pnp(
    points: Tensor,
    pixels: Tensor | None,
    intrinsics: Tensor,
    confidence: Tensor | None = None,
    keep: float = 1.0,
    mask: Tensor | None = None,
    threshold: float = 5.0,
    iterations: int = 100,
    max_points: int = 20_000,
    seed: int = 0,
) -> PnPResult:
    """The pose of one camera from points and the pixels that see them (RANSAC, then refined).

    Args:
        points: `(..., 3)` in the frame the pose is wanted in, such as a pointmap `(H, W, 3)`.
        pixels: (u, v) of each point, `(..., 2)`; for `None`, `points` is a pointmap and each
            point belongs to its own pixel.
        intrinsics: `(3, 3)` in pixels.
        confidence: `(...)`, used to choose the points with `keep`.
        keep: the share of points to use, the most confident ones; 1 uses all.
        mask: the points that may be used, bool `(...)`.
        threshold: largest reprojection error of an inlier, in pixels.
        iterations: most RANSAC draws.
        max_points: where there are more, a random choice of that many (drawn with `seed`).
        seed: of that choice; equal inputs give equal results.

    Returns:
        The result, with `success` false and a reason where too few points agree on a pose.

    Raises:
        ValueError: shapes that do not fit.

    >>> from croco3d.geometry import depth_to_pointmap, intrinsics_matrix
    >>> camera = intrinsics_matrix(torch.tensor(40.0), torch.tensor([16.0, 12.0]))
    >>> depth = 2 + torch.rand(24, 32, generator=torch.Generator().manual_seed(0))
    >>> pose = torch.eye(4)
    >>> pose[0, 3] = 0.5
    >>> result = solve_pnp(depth_to_pointmap(depth, camera, pose), None, camera)
    >>> result.success, torch.allclose(result.cam2world, pose, atol=1e-4)
    (True, True)
    """
    pixels = _pixels_of(points, pixels, intrinsics)
    usable = points.isfinite().all(-1).cpu() & pixels.isfinite().all(-1).cpu()
    if mask is not None:
        usable &= mask.cpu()
    index = _choose(usable.flatten(), confidence, keep, max_points, seed)
    flat_points = points.detach().cpu().reshape(-1, 3).double()
    flat_pixels = pixels.cpu().reshape(-1, 2).double()
    camera = intrinsics.detach().cpu().double()
    pose, reason = _ransac(
        flat_points[index].numpy(), flat_pixels[index].numpy(), camera, threshold, iterations
    )
    if pose is None:
        return _failure(usable, reason)
    offset = project(flat_points, camera, pose) - flat_pixels
    error = torch.linalg.vector_norm(offset, dim=-1).nan_to_num(torch.inf)
    ahead = ((flat_points - pose[:3, 3]) * pose[:3, 2]).sum(-1) > 0
    inliers = (error < threshold) & ahead & usable.flatten()
    count = int(inliers.sum())
    if count < MIN_POINTS:
        return _failure(usable, f"only {count} points agree with the pose to {threshold} pixels")
    median = float(error[inliers].median())
    return PnPResult(True, pose.float(), inliers.reshape(usable.shape), median)


def _pixels_of(points: Tensor, pixels: Tensor | None, intrinsics: Tensor) -> Tensor:
    if pixels is None:
        if points.ndim != 3:
            raise ValueError(
                f"Without pixels, points must be a pointmap (H, W, 3), got {tuple(points.shape)}."
            )
        pixels = pixel_grid(points.shape[0], points.shape[1])
    if intrinsics.shape != (3, 3) or points.shape[:-1] != pixels.shape[:-1]:
        raise ValueError(
            f"Expected points (..., 3), pixels (..., 2) and intrinsics (3, 3), got "
            f"{tuple(points.shape)}, {tuple(pixels.shape)} and {tuple(intrinsics.shape)}."
        )
    return pixels


def _failure(usable: Tensor, reason: str) -> PnPResult:
    nowhere = torch.full((4, 4), torch.nan)
    return PnPResult(False, nowhere, torch.zeros_like(usable), float("nan"), reason)


def _choose(
    usable: Tensor, confidence: Tensor | None, keep: float, max_points: int, seed: int
) -> Tensor:
    if not 0 < keep <= 1:
        raise ValueError(f"keep is a share of the points, above 0 and at most 1; got {keep}.")
    index = usable.nonzero().squeeze(1)
    if confidence is not None and keep < 1 and len(index):
        order = confidence.detach().cpu().flatten()[index].argsort(descending=True, stable=True)
        index = index[order[: max(MIN_POINTS, round(keep * len(index)))]]
    if len(index) > max_points:
        generator = torch.Generator().manual_seed(seed)
        index = index[torch.randperm(len(index), generator=generator)[:max_points]]
    return index.sort().values


def _ransac(
    points: np.ndarray, pixels: np.ndarray, camera: Tensor, threshold: float, iterations: int
) -> tuple[Tensor | None, str]:
    if len(points) < MIN_POINTS:
        return None, f"{len(points)} usable points; at least {MIN_POINTS} are needed"
    matrix = camera.numpy()
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        matrix,
        None,
        iterationsCount=iterations,
        reprojectionError=threshold,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < MIN_POINTS:
        agreeing = 0 if inliers is None else len(inliers)
        return None, (
            f"no pose agrees with {MIN_POINTS} or more of {len(points)} points within "
            f"{threshold} pixels (best: {agreeing})"
        )
    chosen = np.asarray(inliers).reshape(-1).astype(np.int64)
    turn, shift = cv2.solvePnPRefineLM(points[chosen], pixels[chosen], matrix, None, turn, shift)
    world2cam = np.eye(4)
    world2cam[:3, :3] = cv2.Rodrigues(turn)[0]
    world2cam[:3, 3] = shift[:, 0]
    if not np.isfinite(world2cam).all():
        return None, "the refinement of the pose diverged"
    return invert_pose(torch.from_numpy(world2cam)), ""


def pose_from_pointmaps(
    own: Tensor, reference: Tensor, weights: Tensor | None = None, robust: bool = True
) -> Similarity:
    """The pose of a camera from one pointmap in its own frame and one in a reference frame.

    On noisy predictions this is steadier than PnP, since depth takes part too.

    Args:
        own: pointmaps in the camera's own frame, `(..., H, W, 3)`.
        reference: the same pixels' points in the reference frame, `(..., H, W, 3)`.
        weights: such as the product of both confidences, `(..., H, W)`; zero leaves out.
        robust: see `fit_similarity`.

    Returns:
        The transform from `own` to `reference`; its `pose()` is the camera's cam2reference in
        the reference's units.

    >>> own = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0))
    >>> fit = pose_from_pointmaps(own, 2 * own + 1)
    >>> torch.allclose(fit.pose()[:3, 3], torch.ones(3), atol=1e-4)
    True
    """
    flat = None if weights is None else weights.flatten(-2)
    return fit_similarity(own.flatten(-3, -2), reference.flatten(-3, -2), flat, robust=robust)
