"""Heads: tokens to pixels."""

from .dpt import DptHead as DptHead
from .dpt import DptHeadConfig as DptHeadConfig
from .linear import LinearHead as LinearHead
from .linear import LinearHeadConfig as LinearHeadConfig
from .matching import MatchingHead as MatchingHead
from .matching import MatchingHeadConfig as MatchingHeadConfig
from .pixels import PixelsHead as PixelsHead
from .pixels import PixelsHeadConfig as PixelsHeadConfig
from .postprocess import PointHeadConfig as PointHeadConfig
