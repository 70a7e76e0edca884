"""Building blocks that take plain keyword arguments."""

from .attention import CrossAttention as CrossAttention
from .attention import SelfAttention as SelfAttention
from .blocks import CrossBlock as CrossBlock
from .blocks import EncoderBlock as EncoderBlock
from .patches import PATCH_EMBEDS as PATCH_EMBEDS
from .patches import ConvPatchEmbed as ConvPatchEmbed
from .patches import LinearPatchEmbed as LinearPatchEmbed
from .patches import patchify as patchify
from .patches import unpatchify as unpatchify
from .positions import AbsolutePositions as AbsolutePositions
from .positions import RotaryTurn as RotaryTurn
from .positions import apply_rotary as apply_rotary
from .positions import grid_for as grid_for
from .positions import grid_positions as grid_positions
from .positions import rotary_tables as rotary_tables
from .positions import sincos_positions as sincos_positions
