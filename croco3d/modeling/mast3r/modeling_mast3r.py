"""MASt3R: DUSt3R with a descriptor for every pixel."""

from ..registry import HEADS
from ..stereo import StereoModel
from .configuration_mast3r import Mast3rConfig


class Mast3rForStereo(StereoModel):
    """Regresses pointmaps and descriptors to match by (MASt3R, arXiv 2406.09756).

    Args:
        config: configs of encoder, decoder and head.

    Raises:
        ValueError: if the head predicts no descriptors.
    """

    config_class = Mast3rConfig

    def __init__(self, config: Mast3rConfig) -> None:
        super().__init__(config)
        if "descriptors" not in self.head1.extra_outputs:
            raise ValueError(
                "Mast3rForStereo needs a head with descriptors, such as 'matching', not "
                f"{HEADS.name_of(config.head_config)!r}; Dust3rForStereo takes that one."
            )
