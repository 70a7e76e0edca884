"""MASt3R: pointmaps and descriptors of two views."""

from .configuration_mast3r import Mast3rConfig as Mast3rConfig
from .modeling_mast3r import Mast3rForStereo as Mast3rForStereo
