"""What encoders, decoders and whole models return."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

# ModelOutput wants a default for every field; these are always set.
_SET: Any = None


@dataclass
class EncoderOutput(ModelOutput):
    """Tokens of one view.

    Attributes:
        last_hidden_state: normalised tokens `(B, N, C)`, in the image's true orientation; with a
            mask, the visible tokens only.
        positions: (row, column) of each token on the patch grid, `(B, N, 2)`, long.
        true_shape: true (height, width) of each image, `(B, 2)`, long; `None` where every image is
            stored as it is.
        image_size: height and width of the stored pixels.
        hidden_states: the embedding and every block's output, each `(B, N, C)`.
        attentions: every block's attention, each `(B, heads, N, N)`.
    """

    last_hidden_state: torch.Tensor = _SET
    positions: torch.Tensor = _SET
    true_shape: torch.Tensor | None = None
    image_size: tuple[int, int] = _SET
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class SingleDecoderOutput(ModelOutput):
    """Tokens of view 1 decoded with view 2 as memory.

    Attributes:
        last_hidden_state: normalised tokens `(B, N, C)`.
        hidden_states: every block's output, the last one normalised, each `(B, N, C)`.
        cross_attentions: attention of view 1's tokens to view 2's per block, `(B, heads, N, N2)`.
    """

    last_hidden_state: torch.Tensor = _SET
    hidden_states: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class PairDecoderOutput(ModelOutput):
    """Tokens of two views decoded together.

    Attributes:
        levels1: view 1 after each block, the last one normalised, each `(B, N1, C)`.
        levels2: view 2 likewise, each `(B, N2, C)`.
        cross_attentions1: attention of view 1's tokens to view 2's per block, `(B, heads, N1, N2)`.
        cross_attentions2: attention of view 2's tokens to view 1's per block, `(B, heads, N2, N1)`.
    """

    levels1: tuple[torch.Tensor, ...] = _SET
    levels2: tuple[torch.Tensor, ...] = _SET
    cross_attentions1: tuple[torch.Tensor, ...] | None = None
    cross_attentions2: tuple[torch.Tensor, ...] | None = None


@dataclass
class HeadOutput(ModelOutput):
    """Per-pixel predictions of one view, in its true orientation.

    Attributes:
        pointmap: `(B, H, W, 3)`, in camera 1.
        confidence: `(B, H, W)`, `None` where the head has none.
        descriptors: unit vectors `(B, H, W, D)`, `None` where the head has none.
        descriptor_confidence: `(B, H, W)`, `None` where the head has none.
    """

    pointmap: torch.Tensor = _SET
    confidence: torch.Tensor | None = None
    descriptors: torch.Tensor | None = None
    descriptor_confidence: torch.Tensor | None = None


@dataclass
class StereoOutput(ModelOutput):
    """What a stereo model predicts for two views. Both pointmaps are in camera 1 (OpenCV axes).

    Attributes:
        pointmap1: a 3-D point for each pixel of view 1, `(B, H1, W1, 3)`.
        pointmap2: a 3-D point for each pixel of view 2, `(B, H2, W2, 3)`.
        confidence1: `(B, H1, W1)`, `None` if the model has none.
        confidence2: `(B, H2, W2)`, `None` if the model has none.
        descriptors1: unit descriptors `(B, H1, W1, D)` (MASt3R).
        descriptors2: unit descriptors `(B, H2, W2, D)` (MASt3R).
        descriptor_confidence1: `(B, H1, W1)` (MASt3R).
        descriptor_confidence2: `(B, H2, W2)` (MASt3R).
        hidden_states1: encoder tokens, then each decoder level of view 1, each `(B, N1, C)`.
        hidden_states2: the same of view 2.
        cross_attentions1: attention of view 1's tokens to view 2's per block, `(B, heads, N1, N2)`.
        cross_attentions2: attention of view 2's tokens to view 1's per block, `(B, heads, N2, N1)`.
    """

    pointmap1: torch.Tensor = _SET
    pointmap2: torch.Tensor = _SET
    confidence1: torch.Tensor | None = None
    confidence2: torch.Tensor | None = None
    descriptors1: torch.Tensor | None = None
    descriptors2: torch.Tensor | None = None
    descriptor_confidence1: torch.Tensor | None = None
    descriptor_confidence2: torch.Tensor | None = None
    hidden_states1: tuple[torch.Tensor, ...] | None = None
    hidden_states2: tuple[torch.Tensor, ...] | None = None
    cross_attentions1: tuple[torch.Tensor, ...] | None = None
    cross_attentions2: tuple[torch.Tensor, ...] | None = None


@dataclass
class CompletionOutput(ModelOutput):
    """What CroCo predicts.

    Attributes:
        loss: scalar, mean squared error over hidden patches.
        prediction: RGB values of each patch of view 1, `(B, N, patch_size**2 * 3)`, in (row,
            column, RGB) order; normalised per patch where the config says so.
        target: the true values, same shape.
        mask: `(B, N)` bool, true where the patch was hidden.
        cross_attentions: attention of view 1's tokens to view 2's per block, `(B, heads, N, N2)`.
    """

    loss: torch.Tensor = _SET
    prediction: torch.Tensor = _SET
    target: torch.Tensor = _SET
    mask: torch.Tensor = _SET
    cross_attentions: tuple[torch.Tensor, ...] | None = None
