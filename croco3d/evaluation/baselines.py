"""What one gets without looking at the images: the numbers every method must beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate, single_target
from croco3d.geometry import depth_to_pointmap
from croco3d.losses.pointmap import normalise_points

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


class MeanPointmap:
    """The mean of the true pointmaps, each pair divided by its mean distance to camera 1.

    It is fitted to the very pairs that are evaluated, which flatters it if anything. Its cameras
    are not told.
    """

    name = "mean pointmap"

    def __init__(self) -> None:
        self._sums: dict[Shapes, list[Tensor]] = {}

    def fit(self, samples: Iterable[Sample]) -> "MeanPointmap":
        """Add pairs to the mean; different image sizes have means of their own."""
        for sample in samples:
            target = single_target(sample)
            view1, view2 = target.in_camera1()
            valid = torch.cat((target.valid1.flatten(1), target.valid2.flatten(1)), dim=1)
            points = torch.cat((view1.flatten(1, 2), view2.flatten(1, 2)), dim=1)
            points = normalise_points(points, valid, "avg_dis").double()
            sums = self._sums.setdefault(_shapes(sample), [points[0] * 0, valid[0].double() * 0])
            sums[0] += points[0]
            sums[1] += valid[0]
        return self

    def __call__(self, sample: Sample) -> StereoEstimate:
        """The mean for images of that size."""
        shapes = _shapes(sample)
        if shapes not in self._sums:
            raise ValueError(f"No pair of sizes {shapes} was fitted.")
        total, count = self._sums[shapes]
        mean = (total / count.clamp(min=1)[:, None]).float()
        pixels1 = shapes[0][0] * shapes[0][1]
        return StereoEstimate(
            pointmap1=mean[:pixels1].view(*shapes[0], 3),
            pointmap2=mean[pixels1:].view(*shapes[1], 3),
            known1=count[:pixels1].view(shapes[0]) > 0,
            known2=count[pixels1:].view(shapes[1]) > 0,
        )


def _shapes(sample: Sample) -> Shapes:
    return tuple(sample["valid1"].shape), tuple(sample["valid2"].shape)


class ConstantDepth:
    """Every pixel of both views at depth 1, with true intrinsics, both cameras in one place."""

    name = "constant depth"

    def __call__(self, sample: Sample) -> StereoEstimate:
        """Two flat pointmaps, and no movement in between."""
        maps = [
            depth_to_pointmap(torch.ones(sample[f"valid{view}"].shape), sample[f"intrinsics{view}"])
            for view in (1, 2)
        ]
        return StereoEstimate(pointmap1=maps[0], pointmap2=maps[1])


class IdentityPose:
    """Camera 2 is where camera 1 is. Its direction of translation counts as 180 degrees off."""

    name = "identity pose"

    def __call__(self, sample: Sample) -> StereoEstimate:
        """No movement."""
        return StereoEstimate(pose2=torch.eye(4))
