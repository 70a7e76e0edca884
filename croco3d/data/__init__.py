"""Pair datasets: readers, exact crops, mixtures, batches; and the procedural generator."""

from .augment import Augment as Augment
from .collate import symmetrize as symmetrize
from .dataset import PairDataset as PairDataset
from .draws import Draw as Draw
from .draws import DrawDataset as DrawDataset
from .draws import TooManyUnreadableError as TooManyUnreadableError
from .factory import make_dataset as make_dataset
from .factory import make_source as make_source
from .frames import Frame as Frame
from .frames import PairSource as PairSource
from .image_pairs import ImagePairFolder as ImagePairFolder
from .mixture import Mixture as Mixture
from .mixture import Resampled as Resampled
from .registry import READERS as READERS
from .sampling import ResolutionBatchSampler as ResolutionBatchSampler
