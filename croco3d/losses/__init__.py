"""Losses as typed objects that can be added and weighted."""

from croco3d.losses.attention import AttentionSupervisionLoss as AttentionSupervisionLoss
from croco3d.losses.base import Loss as Loss
from croco3d.losses.base import LossResult as LossResult
from croco3d.losses.base import StereoPrediction as StereoPrediction
from croco3d.losses.base import WeightedSum as WeightedSum
from croco3d.losses.confidence import ConfidenceLoss as ConfidenceLoss
from croco3d.losses.matching import Correspondences as Correspondences
from croco3d.losses.matching import MatchingLoss as MatchingLoss
from croco3d.losses.pixels import MaskedPixelLoss as MaskedPixelLoss
from croco3d.losses.pointmap import PointmapLoss as PointmapLoss
from croco3d.losses.rays import RayLoss as RayLoss
from croco3d.losses.target import StereoTarget as StereoTarget
