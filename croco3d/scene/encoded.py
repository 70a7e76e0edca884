"""Images encoded once, however many pairs they are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..modeling.outputs import EncoderOutput


class EncodedImages:
    """Encodes images on demand, in batches of one size, and holds their tokens until dropped.

    Args:
        model: A stereo model with `encode` and a `device`.
        pixel_values: One network input `(1, 3, H, W)` an image; sizes may differ.
        batch_size: How many images are encoded together at most, and pairs decoded; `None` for 1
            on a CPU, where more are slower each, and 8 elsewhere.
        dtype: Compute under autocast in this dtype; `None` for the model's own.

    Attributes:
        calls: How often the encoder ran.
        encoded: How many images it encoded.
    """

    def __init__(
        self,
        model: Any,
        pixel_values: Sequence[Tensor],
        batch_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.pixel_values, self.dtype = model, pixel_values, dtype
        self.batch_size = batch_size or (1 if model.device.type == "cpu" else 8)
        self.calls = self.encoded = 0
        self._held: dict[int, EncoderOutput] = {}

    def __len__(self) -> int:
        return len(self.pixel_values)

    def size(self, image: int) -> tuple[int, int]:
        """(height, width) of an image at the network's size."""
        height, width = self.pixel_values[image].shape[-2:]
        return height, width

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast context that the model is to run in."""
        device = self.model.device.type
        return nullcontext() if self.dtype is None else torch.autocast(device, dtype=self.dtype)

    def require(self, images: Iterable[int], ahead: Iterable[int] = ()) -> None:
        """Encode what is not encoded yet.

        Args:
            images: What is needed now.
            ahead: What will be needed next, to fill up batches.
        """
        missing = [image for image in dict.fromkeys(images) if image not in self._held]
        while missing:
            size = self.size(missing[0])
            batch = [image for image in missing if self.size(image) == size][: self.batch_size]
            missing = [image for image in missing if image not in batch]
            for image in ahead:
                if len(batch) == self.batch_size:
                    break
                if self.size(image) == size and image not in self._held and image not in batch:
                    batch.append(image)
            self._encode(batch)

    @torch.no_grad()
    def _encode(self, batch: list[int]) -> None:
        pixels = torch.cat([self.pixel_values[image] for image in batch])
        pixels = pixels.to(self.model.device)
        with self.precision():
            features = self.model.encode(pixels)
        self.calls += 1
        self.encoded += len(batch)
        for row, image in enumerate(batch):
            # A copy, so that dropping one image of a batch frees its memory.
            self._held[image] = EncoderOutput(
                last_hidden_state=features.last_hidden_state[row : row + 1].clone(),
                positions=features.positions[row : row + 1].clone(),
                image_size=features.image_size,
            )

    def gather(self, images: Sequence[int]) -> EncoderOutput:
        """Tokens of images of one size, encoded before, as one batch."""
        held = [self._held[image] for image in images]
        return EncoderOutput(
            last_hidden_state=torch.cat([f.last_hidden_state for f in held]),  # pyright: ignore
            positions=torch.cat([f.positions for f in held]),  # pyright: ignore
            image_size=held[0].image_size,
        )

    def drop(self, images: Iterable[int]) -> None:
        """Forget images that no further pair needs."""
        for image in images:
            self._held.pop(image, None)

    def pooled(self) -> Tensor:
        """The mean token of every image `(N, C)`, float32, for retrieval."""
        everything = range(len(self))
        self.require(everything, everything)
        tokens = [self.gather([image]).last_hidden_state for image in everything]
        return torch.stack([t[0].float().mean(dim=0).cpu() for t in tokens if t is not None])
