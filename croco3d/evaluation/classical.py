"""Two-view geometry as it was done before networks, by OpenCV."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate

MIN_MATCHES = 8


@dataclass(frozen=True)
class SiftTriangulation:
    """SIFT matches, essential matrix, triangulation. It is told the true intrinsics.

    The essential matrix comes from OpenCV's RANSAC with local optimisation (USAC_ACCURATE), which
    found clearly better poses than its plain RANSAC, LMedS and MAGSAC on small rendered images.

    The result is sparse: errors of points are over the matched pixels alone, which are the easy
    ones; `coverage` says how many they are. The scale is arbitrary.

    Attributes:
        ratio: of Lowe's test between nearest and second nearest descriptor.
        threshold: largest distance to the epipolar line of an inlier, in pixels.
        min_parallax: smallest angle in degrees between the two rays of a point; nearly parallel
            rays give depths that are wild.
    """

    ratio: float = 0.8
    threshold: float = 0.5
    min_parallax: float = 0.5

    @property
    def name(self) -> str:
        """What the tables call it."""
        return "SIFT + essential matrix"

    def __call__(self, sample: Sample) -> StereoEstimate:
        """Pose and sparse points of a pair; a pose of NaN where too little matches."""
        cameras = [sample[f"intrinsics{view}"].double().numpy() for view in (1, 2)]
        failed = StereoEstimate(
            pointmap1=torch.full((*sample["valid1"].shape, 3), torch.nan),
            pointmap2=torch.full((*sample["valid2"].shape, 3), torch.nan),
            pose2=torch.full((4, 4), torch.nan),
        )
        pixels = self._match(*(_grey(sample[f"pixel_values{view}"]) for view in (1, 2)))
        if len(pixels[0]) < MIN_MATCHES:
            return failed
        rays = [_rays(xy, camera) for xy, camera in zip(pixels, cameras, strict=True)]
        # In rays, so that views of different cameras can be paired.
        limit = self.threshold / float(np.mean([np.linalg.norm(k[0, :2]) for k in cameras]))
        essential, inliers = cv2.findEssentialMat(
            rays[0], rays[1], np.eye(3), cv2.USAC_ACCURATE, 0.999, limit
        )
        if essential is None or essential.shape != (3, 3):
            return failed
        good, turn, shift, inliers = cv2.recoverPose(
            essential, rays[0], rays[1], np.eye(3), mask=inliers
        )
        if good < MIN_MATCHES:
            return failed
        kept = inliers[:, 0] > 0
        world2cam2 = np.hstack((turn, shift))
        homogeneous = cv2.triangulatePoints(
            np.eye(3, 4), world2cam2, rays[0][kept].T, rays[1][kept].T
        )
        points = (homogeneous[:3] / homogeneous[3]).T
        points2 = points @ turn.T + shift[:, 0]
        parallax = _angles(points, points2 @ turn)
        sound = (points[:, 2] > 0) & (points2[:, 2] > 0) & (parallax >= self.min_parallax)
        return _sparse_estimate(
            sample, [xy[kept][sound] for xy in pixels], points[sound], turn, shift[:, 0]
        )

    def _match(self, image1: np.ndarray, image2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sift = cv2.SIFT.create()
        points1, descriptors1 = sift.detectAndCompute(image1, None)
        points2, descriptors2 = sift.detectAndCompute(image2, None)
        empty = np.zeros((0, 2))
        if len(points1) < 2 or len(points2) < 2:
            return empty, empty
        pairs = cv2.BFMatcher().knnMatch(descriptors1, descriptors2, k=2)
        good = [first for first, second in pairs if first.distance < self.ratio * second.distance]
        xy1 = np.array([points1[match.queryIdx].pt for match in good]).reshape(-1, 2)
        xy2 = np.array([points2[match.trainIdx].pt for match in good]).reshape(-1, 2)
        return xy1, xy2


def _grey(pixel_values: Tensor) -> np.ndarray:
    levels = ((pixel_values.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return cv2.cvtColor(levels.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY)


def _rays(pixels: np.ndarray, camera: np.ndarray) -> np.ndarray:
    homogeneous = np.column_stack((pixels, np.ones(len(pixels))))
    return np.ascontiguousarray((homogeneous @ np.linalg.inv(camera).T)[:, :2])


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles in degrees between vectors `(N, 3)`."""
    sine = np.linalg.norm(np.cross(first, second), axis=1)
    return np.degrees(np.arctan2(sine, (first * second).sum(1)))


def _sparse_estimate(
    sample: Sample,
    pixels: list[np.ndarray],
    points: np.ndarray,
    turn: np.ndarray,
    shift: np.ndarray,
) -> StereoEstimate:
    pose2 = torch.eye(4)
    pose2[:3, :3] = torch.from_numpy(turn.T)
    pose2[:3, 3] = torch.from_numpy(-turn.T @ shift)
    maps = []
    for view, xy in zip((1, 2), pixels, strict=True):
        pointmap = torch.full((*sample[f"valid{view}"].shape, 3), torch.nan)
        column, row = np.rint(xy).astype(int).T
        height, width = pointmap.shape[:2]
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        pointmap[row[inside], column[inside]] = torch.from_numpy(points[inside]).float()
        maps.append(pointmap)
    return StereoEstimate(pointmap1=maps[0], pointmap2=maps[1], pose2=pose2)
