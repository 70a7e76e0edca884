"""Decoders: tokens of two views, with cross-attention."""

from .base import DecoderConfig as DecoderConfig
from .pair import PairDecoder as PairDecoder
from .pair import PairDecoderConfig as PairDecoderConfig
from .pair import SharedPairDecoder as SharedPairDecoder
from .pair import SharedPairDecoderConfig as SharedPairDecoderConfig
from .single import SingleDecoder as SingleDecoder
from .single import SingleDecoderConfig as SingleDecoderConfig
