"""Networks: no files, no downloads, no training."""

from .registry import DECODERS as DECODERS
from .registry import ENCODERS as ENCODERS
from .registry import HEADS as HEADS
