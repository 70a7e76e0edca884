"""In and out of the Hub: auto classes, published checkpoints, named weights and licences."""

from .auto import AutoCroco3D as AutoCroco3D
from .auto import AutoEncoder as AutoEncoder
