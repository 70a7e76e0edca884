"""Images to pairs to predictions to alignment to a scene, and its exports."""

from .pairs import check_connected as check_connected
from .pairs import distinct_pairs as distinct_pairs
from .pairs import make_pairs as make_pairs
from .predictions import PairPredictions as PairPredictions
from .scene import Camera as Camera
from .scene import Scene as Scene
