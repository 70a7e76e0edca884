"""CroCo: masked completion of a view with the help of another."""

from torch import Tensor

from ..components import Croco3DModel, Encoder
from ..decoders import SingleDecoder
from ..heads import PixelsHead
from ..layers import patchify
from ..outputs import CompletionOutput
from ..registry import DECODERS, ENCODERS, HEADS
from .configuration_croco import CrocoConfig
from .pixels import completion_loss, normalize_patches, random_mask


class CrocoForPreTraining(Croco3DModel):
    """Cross-view completion (CroCo, arXiv 2210.10716; v2, 2211.10408).

    View 1's visible patches and all of view 2 go through one encoder; the decoder fills view 1's
    hidden patches while reading view 2; the loss is the squared error of their pixels.

    Args:
        config: configs of encoder, decoder and head, and the masking.

    Raises:
        ValueError: if the components do not fit together.
    """

    config_class = CrocoConfig
    main_input_name = "pixel_values1"
    _no_split_modules = ["EncoderBlock", "CrossBlock"]

    def __init__(self, config: CrocoConfig) -> None:
        super().__init__(config)
        encoder = ENCODERS.build(config.encoder_config)
        assert isinstance(encoder, Encoder)
        decoder = DECODERS.build(
            config.decoder_config, in_channels=encoder.hidden_size, patch_size=encoder.patch_size
        )
        if not isinstance(decoder, SingleDecoder):
            raise ValueError(
                f"CrocoForPreTraining decodes one view, with decoder 'single', not "
                f"{DECODERS.name_of(config.decoder_config)!r}."
            )
        if HEADS.model_class("pixels") is not HEADS.model_class(HEADS.name_of(config.head_config)):
            raise ValueError(
                "CrocoForPreTraining predicts pixels, with head 'pixels', not "
                f"{HEADS.name_of(config.head_config)!r}."
            )
        head = HEADS.build(
            config.head_config, in_channels=decoder.hidden_size, patch_size=encoder.patch_size
        )
        assert isinstance(head, PixelsHead)
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.post_init()

    def forward(
        self,
        pixel_values1: Tensor,
        pixel_values2: Tensor,
        mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> CompletionOutput:
        """Completes view 1.

        Args:
            pixel_values1: the view to complete, `(B, 3, H, W)`.
            pixel_values2: the view to read, `(B, 3, H2, W2)`.
            mask: `(B, N)` bool, true = hidden, the same number in each row; drawn at random with
                the config's ratio where it is `None`.
            output_attentions: whether to return the cross-attentions.

        Raises:
            ValueError: if the views differ in batch size, or a size does not fit.
        """
        check_batches(pixel_values1, pixel_values2)
        patch = self.encoder.patch_size
        positions = self.encoder.positions(pixel_values1)
        if mask is None:
            batch, patches, _ = positions.shape
            mask = random_mask(batch, patches, self.config.mask_ratio, positions.device)
        mask = mask.to(device=pixel_values1.device).bool()
        visible1 = self.encoder(pixel_values1, mask=mask).last_hidden_state
        features2 = self.encoder(pixel_values2)
        decoded = self.decoder(
            visible1,
            mask,
            positions,
            features2.last_hidden_state,
            features2.positions,
            output_attentions=output_attentions,
        )
        prediction = self.head(decoded.last_hidden_state)
        target = patchify(pixel_values1.float(), patch)
        goal = normalize_patches(target) if self.config.norm_pix_loss else target
        return CompletionOutput(
            loss=completion_loss(prediction, goal, mask, self.config.loss_on_hidden),
            prediction=prediction,
            target=target,
            mask=mask,
            cross_attentions=decoded.cross_attentions,
        )


def check_batches(pixel_values1: Tensor, pixel_values2: Tensor) -> None:
    """Raises a `ValueError` naming both sizes unless both views hold as many images."""
    if pixel_values1.shape[0] != pixel_values2.shape[0]:
        raise ValueError(
            "Both views must hold the same number of images, but view 1 has batch size "
            f"{pixel_values1.shape[0]} and view 2 {pixel_values2.shape[0]} "
            f"({tuple(pixel_values1.shape)} and {tuple(pixel_values2.shape)})."
        )
