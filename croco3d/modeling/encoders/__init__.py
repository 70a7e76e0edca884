"""Encoders: images to tokens."""

from .croco import CrocoEncoder as CrocoEncoder
from .croco import CrocoEncoderConfig as CrocoEncoderConfig
from .timm import TimmEncoder as TimmEncoder
from .timm import TimmEncoderConfig as TimmEncoderConfig
