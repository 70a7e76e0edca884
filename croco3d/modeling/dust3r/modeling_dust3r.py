"""DUSt3R: two photographs in, a 3-D point for every pixel out."""

from ..stereo import StereoModel
from .configuration_dust3r import Dust3rConfig


class Dust3rForStereo(StereoModel):
    """Regresses the pointmaps of two views in view 1's camera (DUSt3R, arXiv 2312.14132).

    Args:
        config: configs of encoder, decoder and head.
    """

    config_class = Dust3rConfig
