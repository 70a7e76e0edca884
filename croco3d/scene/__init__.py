"""Images to pairs to predictions to alignment to a scene, and its exports."""

from .alignment import align as align
from .camera import Camera as Camera
from .fusion import PointCloud as PointCloud
from .fusion import fuse as fuse
from .known import KnownCamera as KnownCamera
from .loading import LoadedModel as LoadedModel
from .loading import load_model as load_model
from .meshing import Mesh as Mesh
from .meshing import build_mesh as build_mesh
from .pairs import check_connected as check_connected
from .pairs import distinct_pairs as distinct_pairs
from .pairs import make_pairs as make_pairs
from .predict import predict_pairs as predict_pairs
from .predictions import PairPredictions as PairPredictions
from .reconstruct import reconstruct as reconstruct
from .scene import Scene as Scene
from .tracks import Matches as Matches
from .tracks import find_matches as find_matches
