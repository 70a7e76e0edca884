"""The image processor of a model: the one saved beside it, or the one its config asks for."""

import logging
import os
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from ..modeling.dust3r import Dust3rImageProcessor
from .auto import MODELS
from .loading import HUB_OPTIONS

logger = logging.getLogger(__name__)

for _config_class in MODELS:
    AutoImageProcessor.register(
        _config_class, image_processor_classes={"pil": Dust3rImageProcessor}
    )


def load_processor(source: str | os.PathLike, config: Any, **options: Any) -> Dust3rImageProcessor:
    """Loads the processor saved with a model, or else builds the one its config asks for.

    Published checkpoints carry no `preprocessor_config.json`.

    Args:
        source: name that the model was loaded by; may be empty.
        config: config of the model.
        **options: `revision`, `token`, `subfolder` and the like, and what to set differently in
            the processor.
    """
    source = os.fspath(source)
    if source and not Path(source).is_file():
        try:
            return Dust3rImageProcessor.from_pretrained(source, **options)
        except OSError:
            logger.debug("%s holds no preprocessor_config.json; built from its config.", source)
    changed = {key: value for key, value in options.items() if key not in HUB_OPTIONS}
    return Dust3rImageProcessor.from_model_config(config, **changed)
