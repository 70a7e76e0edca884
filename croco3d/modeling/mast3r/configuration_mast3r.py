"""Configuration of MASt3R."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import SubConfigSpec

from ..dust3r.configuration_dust3r import Dust3rConfig


@strict
class Mast3rConfig(Dust3rConfig):
    """Configuration of `Mast3rForStereo`: as `Dust3rConfig`, with the "matching" head."""

    model_type = "croco3d_mast3r"
    sub_configs_defaults = {
        **Dust3rConfig.sub_configs_defaults,
        "head_config": SubConfigSpec(AutoConfig, model_type="croco3d_matching_head"),
    }
