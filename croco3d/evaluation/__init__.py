"""Errors of stereo estimates, baselines, and reports over whole data sets."""

from croco3d.evaluation.baselines import ConstantDepth as ConstantDepth
from croco3d.evaluation.baselines import IdentityPose as IdentityPose
from croco3d.evaluation.baselines import MeanPointmap as MeanPointmap
from croco3d.evaluation.cameras import PoseAccuracy as PoseAccuracy
from croco3d.evaluation.cameras import PoseError as PoseError
from croco3d.evaluation.cameras import focal_error as focal_error
from croco3d.evaluation.cameras import pose_accuracy as pose_accuracy
from croco3d.evaluation.cameras import pose_error as pose_error
from croco3d.evaluation.classical import SiftTriangulation as SiftTriangulation
from croco3d.evaluation.clouds import CloudError as CloudError
from croco3d.evaluation.clouds import cloud_error as cloud_error
from croco3d.evaluation.estimates import Method as Method
from croco3d.evaluation.estimates import StereoEstimate as StereoEstimate
from croco3d.evaluation.estimates import measure as measure
from croco3d.evaluation.evaluate import BASELINES as BASELINES
from croco3d.evaluation.evaluate import evaluate as evaluate
from croco3d.evaluation.models import ModelMethod as ModelMethod
from croco3d.evaluation.pointmaps import DepthError as DepthError
from croco3d.evaluation.pointmaps import NormalError as NormalError
from croco3d.evaluation.pointmaps import PointmapError as PointmapError
from croco3d.evaluation.pointmaps import depth_error as depth_error
from croco3d.evaluation.pointmaps import normal_error as normal_error
from croco3d.evaluation.pointmaps import pointmap_error as pointmap_error
from croco3d.evaluation.report import METRICS as METRICS
from croco3d.evaluation.report import EvaluationReport as EvaluationReport
from croco3d.evaluation.report import summarise as summarise
