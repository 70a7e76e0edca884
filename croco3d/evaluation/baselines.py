"""What one gets without looking at the images: the numbers every method must beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from croco3d.evaluation.estimates import Sample, StereoEstimate, single_target
from croco3d.geometry import depth_to_pointmap
from croco3d.losses import StereoTarget
from croco3d.losses.pointmap import normalise_points

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


class MeanPointmap:
    """The mean of the true pointmaps, each pair divided by its mean distance to camera 1.

    It is fitted to the very pairs that are evaluated, which flatters it if anything. Its cameras
    are not told. Different image sizes have means of their own.

    Attributes:
        sums: for each pair of image sizes, over the pixels of view 1 and then of view 2, sums of
            points and counts of valid ones, `(N, 4)` float64 on the CPU.
    """

    name = "mean pointmap"

    def __init__(self) -> None:
        self.sums: dict[Shapes, Tensor] = {}

    def fit(self, samples: Iterable[Sample]) -> "MeanPointmap":
        """Add pairs to the mean."""
        for sample in samples:
            self.add(single_target(sample))
        return self

    def add(self, target: StereoTarget) -> None:
        """Add a batch of pairs to the mean."""
        view1, view2 = target.in_camera1()
        valid = torch.cat((target.valid1.flatten(1), target.valid2.flatten(1)), dim=1)
        points = torch.cat((view1.flatten(1, 2), view2.flatten(1, 2)), dim=1)
        points = normalise_points(points, valid, "avg_dis")
        sums = torch.cat((points, valid[..., None]), dim=-1).double().sum(0).cpu()
        self.merge({_shapes(target.valid1[0], target.valid2[0]): sums})

    def merge(self, sums: dict[Shapes, Tensor]) -> None:
        """Add the sums of another mean, such as another process's."""
        for shapes, more in sums.items():
            self.sums[shapes] = self.sums[shapes] + more if shapes in self.sums else more

    def maps(self, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mean for images of these sizes.

        Returns:
            Pointmaps `(H1, W1, 3)` and `(H2, W2, 3)`, and where any pair had points, bool
            `(H1, W1)` and `(H2, W2)`.

        Raises:
            ValueError: no pair of these sizes was added.
        """
        if shapes not in self.sums:
            raise ValueError(f"No pair of sizes {shapes} was fitted.")
        total, count = self.sums[shapes][:, :3], self.sums[shapes][:, 3]
        mean = (total / count.clamp(min=1)[:, None]).float()
        (height1, width1), (height2, width2) = shapes
        pixels1 = height1 * width1
        return (
            mean[:pixels1].view(height1, width1, 3),
            mean[pixels1:].view(height2, width2, 3),
            count[:pixels1].view(height1, width1) > 0,
            count[pixels1:].view(height2, width2) > 0,
        )

    def __call__(self, sample: Sample) -> StereoEstimate:
        """The mean for images of that size."""
        return StereoEstimate(*self.maps(_shapes(sample["valid1"], sample["valid2"])))


def _shapes(valid1: Tensor, valid2: Tensor) -> Shapes:
    return tuple(valid1.shape), tuple(valid2.shape)


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
