"""CroCo: cross-view completion."""

from .configuration_croco import CrocoConfig as CrocoConfig
from .modeling_croco import CrocoForPreTraining as CrocoForPreTraining
