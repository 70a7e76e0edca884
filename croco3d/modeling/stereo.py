"""What stereo models have in common: encode both views once, decode them together, predict."""

from typing import Any

import torch
from torch import Tensor

from .components import Croco3DModel, Encoder, Head, PairDecoderBase
from .croco.modeling_croco import check_batches
from .orientation import apply_oriented, stored_transposed
from .outputs import EncoderOutput, StereoOutput
from .registry import DECODERS, ENCODERS, HEADS


class StereoModel(Croco3DModel):
    """Encoder, decoder of two views and one head a view.

    Args:
        config: configs of encoder, decoder and head.

    Raises:
        ValueError: if the components do not fit together.
    """

    main_input_name = "pixel_values1"
    _no_split_modules = ["EncoderBlock", "CrossBlock"]
    _keep_in_fp32_modules_strict = ["head1", "head2"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        encoder = ENCODERS.build(config.encoder_config)
        assert isinstance(encoder, Encoder)
        decoder = DECODERS.build(
            config.decoder_config, in_channels=encoder.hidden_size, patch_size=encoder.patch_size
        )
        if not isinstance(decoder, PairDecoderBase):
            raise ValueError(
                f"{type(self).__name__} needs a decoder of two views, such as 'pair' or "
                f"'shared_pair', not {DECODERS.name_of(config.decoder_config)!r}."
            )
        self.encoder, self.decoder = encoder, decoder
        widths = (encoder.hidden_size, *[decoder.hidden_size] * decoder.depth)
        self.head1, self.head2 = (self._build_head(widths, encoder.patch_size) for _ in range(2))
        self.post_init()

    def _build_head(self, widths: tuple[int, ...], patch_size: int) -> Head:
        config = self.config.head_config
        name = HEADS.name_of(config)
        if not issubclass(HEADS.model_class(name), Head):
            raise ValueError(
                f"{type(self).__name__} needs a head that predicts points, such as 'linear' or "
                f"'dpt', not {name!r}."
            )
        head = HEADS.build(config, level_widths=widths, patch_size=patch_size)
        assert isinstance(head, Head)
        return head

    def encode(
        self,
        pixel_values: Tensor,
        true_shape: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> EncoderOutput:
        """Encodes images once, to be decoded in any number of pairs.

        Args:
            pixel_values: `(B, 3, H, W)` in [-1, 1].
            true_shape: `(B, 2)` true (height, width); see `Encoder.forward`.
            output_hidden_states: whether to return every block's output.
        """
        return self.encoder(pixel_values, true_shape, output_hidden_states=output_hidden_states)

    def decode(
        self,
        features1: EncoderOutput,
        features2: EncoderOutput,
        output_hidden_states: bool | None = None,
        output_attentions: bool = False,
    ) -> StereoOutput:
        """Decodes pairs of encoded views and predicts, as `forward` does after encoding.

        Args:
            features1: what `encode` returned for view 1.
            features2: what `encode` returned for view 2, as many images.
            output_hidden_states: whether to return encoder tokens and all decoder levels.
            output_attentions: whether to return the cross-attentions.
        """
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        tokens1, tokens2 = features1.last_hidden_state, features2.last_hidden_state
        decoded = self.decoder(
            tokens1, features1.positions, tokens2, features2.positions, output_attentions
        )
        levels1, levels2 = (tokens1, *decoded.levels1), (tokens2, *decoded.levels2)
        pixels1 = self._predict(self.head1, levels1, features1)
        pixels2 = self._predict(self.head2, levels2, features2)
        return StereoOutput(
            pointmap1=pixels1["pointmap"],
            pointmap2=pixels2["pointmap"],
            confidence1=pixels1["confidence"],
            confidence2=pixels2["confidence"],
            descriptors1=pixels1["descriptors"],
            descriptors2=pixels2["descriptors"],
            descriptor_confidence1=pixels1["descriptor_confidence"],
            descriptor_confidence2=pixels2["descriptor_confidence"],
            hidden_states1=levels1 if output_hidden_states else None,
            hidden_states2=levels2 if output_hidden_states else None,
            cross_attentions1=decoded.cross_attentions1,
            cross_attentions2=decoded.cross_attentions2,
        )

    def forward(
        self,
        pixel_values1: Tensor,
        pixel_values2: Tensor,
        true_shape1: Tensor | None = None,
        true_shape2: Tensor | None = None,
        symmetrized: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool = False,
    ) -> StereoOutput:
        """Predicts both views' points in view 1's camera.

        Args:
            pixel_values1: `(B, 3, H1, W1)` in [-1, 1].
            pixel_values2: `(B, 3, H2, W2)`; its size may differ from view 1's.
            true_shape1: `(B, 2)` true (height, width) of view 1, for batches stored in landscape;
                outputs come back as stored.
            true_shape2: the same of view 2.
            symmetrized: whether samples 2k and 2k + 1 are (a, b) and (b, a), so that each image
                need be encoded only once; `None` looks at the pixels (not when compiling).
            output_hidden_states: whether to return encoder tokens and all decoder levels.
            output_attentions: whether to return the cross-attentions.

        Raises:
            ValueError: if the views differ in batch size, or a size does not fit.
        """
        check_batches(pixel_values1, pixel_values2)
        if symmetrized is None:
            symmetrized = _is_symmetrized(pixel_values1, pixel_values2, true_shape1, true_shape2)
        if symmetrized:
            features1, features2 = self._encode_symmetrized(
                pixel_values1, pixel_values2, true_shape1, true_shape2
            )
        else:
            features1, features2 = self._encode_both(
                pixel_values1, pixel_values2, true_shape1, true_shape2
            )
        return self.decode(features1, features2, output_hidden_states, output_attentions)

    def _encode_both(
        self, images1: Tensor, images2: Tensor, shape1: Tensor | None, shape2: Tensor | None
    ) -> tuple[EncoderOutput, EncoderOutput]:
        if images1.shape != images2.shape:
            return self.encode(images1, shape1), self.encode(images2, shape2)
        shapes = None
        if shape1 is not None or shape2 is not None:
            shapes = torch.cat((_shapes_of(images1, shape1), _shapes_of(images2, shape2)))
        both = self.encode(torch.cat((images1, images2)), shapes)
        batch = images1.shape[0]
        return _select(both, slice(0, batch)), _select(both, slice(batch, None))

    def _encode_symmetrized(
        self, images1: Tensor, images2: Tensor, shape1: Tensor | None, shape2: Tensor | None
    ) -> tuple[EncoderOutput, EncoderOutput]:
        if images1.shape != images2.shape or images1.shape[0] % 2:
            raise ValueError(
                "A symmetrized batch holds (a, b) and (b, a) in turn, so both views must have the "
                f"same size and an even number of images, not {tuple(images1.shape)} and "
                f"{tuple(images2.shape)}."
            )
        first, second = self._encode_both(
            images1[::2],
            images2[::2],
            None if shape1 is None else shape1[::2],
            None if shape2 is None else shape2[::2],
        )
        return _interleave(first, second), _interleave(second, first)

    def _predict(
        self, head: Head, levels: tuple[Tensor, ...], features: EncoderOutput
    ) -> dict[str, Any]:
        height, width = features.image_size
        patch = self.encoder.patch_size
        flags = stored_transposed((height, width), features.true_shape)

        def predict(turned: bool, *chosen: Tensor) -> dict[str, Tensor | None]:
            grid = (height // patch, width // patch)
            pixels = head(chosen, grid[::-1] if turned else grid)
            names = ("pointmap", "confidence", "descriptors", "descriptor_confidence")
            outputs = {name: getattr(pixels, name) for name in names}
            if turned:
                outputs = {
                    name: None if value is None else value.transpose(1, 2)
                    for name, value in outputs.items()
                }
            return outputs

        return apply_oriented(flags, predict, *(levels[index] for index in head.level_indices))


def _is_symmetrized(
    images1: Tensor, images2: Tensor, shape1: Tensor | None, shape2: Tensor | None
) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if images1.shape != images2.shape or images1.shape[0] % 2 or not images1.shape[0]:
        return False
    if (shape1 is None) != (shape2 is None):
        return False
    tensors = [(images1, images2)]
    if shape1 is not None and shape2 is not None:
        tensors.append((shape1, shape2))
    return all(
        torch.equal(a[::2], b[1::2]) and torch.equal(a[1::2], b[::2]) for a, b in reversed(tensors)
    )


def _shapes_of(images: Tensor, true_shape: Tensor | None) -> Tensor:
    if true_shape is not None:
        return true_shape
    return torch.tensor([images.shape[-2:]], device=images.device).expand(images.shape[0], 2)


def _select(features: EncoderOutput, where: slice) -> EncoderOutput:
    return EncoderOutput(
        last_hidden_state=features.last_hidden_state[where],
        positions=features.positions[where],
        true_shape=None if features.true_shape is None else features.true_shape[where],
        image_size=features.image_size,
    )


def _interleave(even: EncoderOutput, odd: EncoderOutput) -> EncoderOutput:
    def mix(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack((a, b), dim=1).flatten(0, 1)

    shapes = None
    if even.true_shape is not None and odd.true_shape is not None:
        shapes = mix(even.true_shape, odd.true_shape)
    return EncoderOutput(
        last_hidden_state=mix(even.last_hidden_state, odd.last_hidden_state),
        positions=mix(even.positions, odd.positions),
        true_shape=shapes,
        image_size=even.image_size,
    )
