"""DUSt3R: two photographs in, a 3-D point for every pixel out."""

import logging
from typing import Any

from ..croco import CrocoForPreTraining
from ..decoders import PairDecoder, SingleDecoder
from ..registry import DECODERS
from ..stereo import StereoModel
from .configuration_dust3r import Dust3rConfig

logger = logging.getLogger(__name__)


class Dust3rForStereo(StereoModel):
    """Regresses the pointmaps of two views in view 1's camera (DUSt3R, arXiv 2312.14132).

    Args:
        config: configs of encoder, decoder and head.
    """

    config_class = Dust3rConfig

    @classmethod
    def from_croco(
        cls,
        source: Any,
        decoder: str = "pair",
        head_config: Any = None,
        image_size: int | tuple[int, int] | None = None,
        **options: Any,
    ) -> "Dust3rForStereo":
        """Starts a DUSt3R model from a CroCo one (DUSt3R, arXiv 2312.14132, section 3.2).

        Encoder, decoder projection and norm are taken over; CroCo's one decoder is copied to both
        stacks; the heads are new.

        Args:
            source: a CroCo model, or whatever `CrocoForPreTraining.from_pretrained` takes.
            decoder: "pair", or "shared_pair" for one stack used for both views.
            head_config: config, or dictionary with a `model_type`, of the heads; linear heads
                where it is `None`.
            image_size: size of the training images; CroCo's where it is `None`.
            **options: passed to `CrocoForPreTraining.from_pretrained`.

        Raises:
            ValueError: if the source is no CroCo model, or the head does not fit its decoder.
        """
        if not isinstance(source, CrocoForPreTraining):
            source = CrocoForPreTraining.from_pretrained(source, **options)
        assert isinstance(source.decoder, SingleDecoder)
        decoder_config = DECODERS.config_class(decoder)(**shared_options(source.decoder.config))
        config = Dust3rConfig(
            encoder_config=source.encoder.config.to_dict(),
            decoder_config=decoder_config.to_dict(),
            head_config=head_config or {"model_type": "croco3d_linear_head"},
            image_size=image_size or source.config.image_size,
            license=source.config.license,
        )
        model = cls(config)
        model.encoder.load_state_dict(source.encoder.state_dict())
        stacks = ("blocks1", "blocks2") if isinstance(model.decoder, PairDecoder) else ("blocks",)
        for name in (*stacks, "embed", "norm", "absolute"):
            part = getattr(source.decoder, "blocks" if name in stacks else name)
            if part is not None:
                getattr(model.decoder, name).load_state_dict(part.state_dict())
        heads = (*model.head1.parameters(), *model.head2.parameters())
        new = sum(weight.numel() for weight in heads)
        logger.warning(
            "Took over CroCo's encoder and decoder (copied to %s); head1 and head2 (%s, %.1f M "
            "parameters) are new and must be trained.",
            " and ".join(stacks),
            type(model.head1).__name__,
            new / 1e6,
        )
        device = next(source.parameters()).device
        return model.to(device=device)  # pyright: ignore[reportCallIssue]


def shared_options(config: Any) -> dict[str, Any]:
    """Returns the options that a single decoder's config shares with those of two views."""
    options = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "mlp_ratio",
        "rotary_base",
        "absolute_positions",
        "image_size",
        "layer_norm_eps",
    )
    return {name: getattr(config, name) for name in options}
