"""DUSt3R: pointmaps of two views."""

from .configuration_dust3r import Dust3rConfig as Dust3rConfig
from .image_processing_dust3r import Dust3rImageProcessor as Dust3rImageProcessor
from .modeling_dust3r import Dust3rForStereo as Dust3rForStereo
