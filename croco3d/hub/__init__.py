"""In and out of the Hub: auto classes, published checkpoints, named weights and licences."""

from .auto import AutoCroco3D as AutoCroco3D
from .auto import AutoEncoder as AutoEncoder
from .cards import TrainingFacts as TrainingFacts
from .processors import load_processor as load_processor
from .publishing import push_adapter as push_adapter
from .publishing import push_model as push_model
