"""What the network said about pairs of images, in memory or read from a store on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Maps = Tensor | Sequence[Any]
UNKNOWN_CONFIDENCE = 2.0


@dataclass(eq=False)
class PairPredictions:
    """Pointmaps and confidences of ordered image pairs.

    The maps are one tensor, or any sequence that yields one tensor (or array) a pair: a list for
    images of mixed sizes, or an object with `__len__` and `__getitem__` that reads from disk.
    Tensors, arrays and lists are checked at once; other sequences entry by entry when read. Any
    floating type will do; `read` returns float32.

    Attributes:
        pairs: `(E, 2)` image indices `(i, j)`.
        pointmaps1: `(E, H, W, 3)` points of image `i`, in camera `i`.
        pointmaps2: `(E, H, W, 3)` points of image `j`, in camera `i` too.
        confidences1: `(E, H, W)`, 1 meaning none (as 1 + exp(x) gives them), of `pointmaps1`;
            None where the model has no confidence.
        confidences2: The same of `pointmaps2`.
        images: uint8 RGB `(H, W, 3)` an image, as the network saw it; None for no colours.
        original_sizes: (width, height) of each photograph in pixels; the maps' size when None.
        pixel_to_original: `(3, 3)` or `(2, 3)` matrices from (column, row, 1) of a map to the
            photograph's pixels, integer coordinates at pixel centres; identity when None.
        names: What to call the images in messages; their numbers when None.
        paths: The photographs' files, passed on to the scene.
        sizes: (height, width) of each image's maps. Read from the maps when None; give it with a
            store so that no file is opened for it.
        confidence_none: The confidence that means none; `read` returns 1 for it.
        confidence_unit: What is added to that in a typical pixel; `read` returns 2 for the sum.

    Raises:
        ValueError: For shapes that do not fit, values that are not finite, indices out of range.
    """

    pairs: Any
    pointmaps1: Maps
    pointmaps2: Maps
    confidences1: Maps | None = None
    confidences2: Maps | None = None
    images: Sequence[Any] | Tensor | None = None
    original_sizes: Sequence[tuple[int, int]] | None = None
    pixel_to_original: Sequence[Any] | None = None
    names: Sequence[str] | None = None
    paths: Sequence[str | None] | None = None
    sizes: Sequence[tuple[int, int]] | None = None
    confidence_none: float = 1.0
    confidence_unit: float = 1.0
    _count: int = field(init=False, repr=False, default=0)
    _checked: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        self.pairs = _pair_list(self.pairs)
        self._check_lengths()
        self._count = self._count_images()
        for name in ("images", "original_sizes", "pixel_to_original", "names", "paths", "sizes"):
            value = getattr(self, name)
            if value is not None and len(value) != self._count:
                raise ValueError(f"{name} has {len(value)} entries for {self._count} images.")
        self.names = list(self.names or [str(index) for index in range(self._count)])
        self.sizes = [(int(h), int(w)) for h, w in self.sizes or self._sizes_from_maps()]
        self._check_loaded()
        self._check_images()

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.pairs)

    @property
    def image_count(self) -> int:
        """The number of images."""
        return self._count

    def observations(self, image: int) -> list[tuple[int, int]]:
        """Where an image was predicted: (pair, view), view 0 being the pair's own camera."""
        return [(e, pair.index(image)) for e, pair in enumerate(self.pairs) if image in pair]

    def read(self, pair: int, view: int) -> tuple[Tensor, Tensor]:
        """One view of one pair.

        Args:
            pair: Which pair.
            view: 0 for the first image, 1 for the second.

        Returns:
            Points `(H, W, 3)` in the first image's camera and confidences `(H, W)`, float32, CPU.

        Raises:
            ValueError: For a wrong shape or values that are not finite, naming the pair.
        """
        maps = (self.pointmaps1, self.pointmaps2)[view]
        confidences = (self.confidences1, self.confidences2)[view]
        points = _tensor(maps[pair])
        shape = self._sizes()[self.pairs[pair][view]]
        if confidences is None:
            confidence = torch.full(shape, UNKNOWN_CONFIDENCE)
        else:
            confidence = _tensor(confidences[pair])
        for value, expected, what in (
            (points, (*shape, 3), "pointmap"),
            (confidence, shape, "confidence"),
        ):
            if tuple(value.shape) != expected:
                raise ValueError(
                    f"{what} {view + 1} of {self._name(pair)} has shape {tuple(value.shape)}, "
                    f"expected {expected}."
                )
            if not self._checked and not torch.isfinite(value).all():
                raise ValueError(
                    f"{what} {view + 1} of {self._name(pair)} has values that are not finite; "
                    "predict in float32 or bfloat16 if float16 overflowed."
                )
        if (self.confidence_none, self.confidence_unit) != (1, 1):
            confidence = 1 + (confidence - self.confidence_none) / self.confidence_unit
        return points, confidence

    def rescale_confidences(self, none: float, unit: float) -> "PairPredictions":
        """The same with confidences `1 + (c - none) / unit`."""
        return replace(self, confidence_none=none, confidence_unit=unit)

    def select(self, chosen: Sequence[int]) -> "PairPredictions":
        """The same images with some of the pairs; maps of a store are still read on demand."""
        maps = {
            name: None if getattr(self, name) is None else _Chosen(getattr(self, name), chosen)
            for name in ("pointmaps1", "pointmaps2", "confidences1", "confidences2")
        }
        return replace(self, pairs=[self.pairs[e] for e in chosen], **maps)

    def _sizes(self) -> list[tuple[int, int]]:
        assert isinstance(self.sizes, list)
        return self.sizes

    def _name(self, pair: int) -> str:
        i, j = self.pairs[pair]
        assert self.names is not None
        return f"pair {pair} ({self.names[i]}, {self.names[j]})"

    def _check_lengths(self) -> None:
        for name in ("pointmaps1", "pointmaps2", "confidences1", "confidences2"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.pairs):
                raise ValueError(f"{name} has {len(value)} entries for {len(self.pairs)} pairs.")

    def _count_images(self) -> int:
        highest = max(max(pair) for pair in self.pairs)
        given = [
            value
            for value in (self.images, self.sizes, self.original_sizes, self.names)
            if value is not None
        ]
        count = len(given[0]) if given else highest + 1
        if highest >= count:
            raise ValueError(
                f"Pairs name image {highest}, but the {count} images are numbered 0 to {count - 1}."
            )
        return count

    def _sizes_from_maps(self) -> list[tuple[int, int]]:
        sizes: dict[int, tuple[int, int]] = {}
        for maps, view in ((self.pointmaps1, 0), (self.pointmaps2, 1)):
            for e, pair in enumerate(self.pairs):
                if pair[view] not in sizes:
                    shape = tuple(maps[e].shape)
                    if len(shape) != 3 or shape[2] != 3:
                        raise ValueError(
                            f"pointmap {view + 1} of pair {e} must be (H, W, 3), got {shape}."
                        )
                    sizes[pair[view]] = (shape[0], shape[1])
        missing = [index for index in range(self._count) if index not in sizes]
        if missing:
            raise ValueError(f"No pair shows images {missing}; leave them out or add pairs.")
        return [sizes[index] for index in range(self._count)]

    def _check_loaded(self) -> None:
        """Check what is in memory already; a store's entries are checked when read."""
        given = (self.pointmaps1, self.pointmaps2, self.confidences1, self.confidences2)
        if all(
            maps is None or isinstance(maps, Tensor | list | tuple) or hasattr(maps, "__array__")
            for maps in given
        ):
            for e in range(len(self.pairs)):
                self.read(e, 0)
                self.read(e, 1)
            self._checked = True

    def _check_images(self) -> None:
        if self.images is None:
            return
        checked = []
        for index, image in enumerate(self.images):
            image = torch.as_tensor(image)
            if tuple(image.shape) != (*self._sizes()[index], 3) or image.dtype != torch.uint8:
                raise ValueError(
                    f"images[{index}] must be uint8 of shape {(*self._sizes()[index], 3)}, got "
                    f"{image.dtype} {tuple(image.shape)}."
                )
            checked.append(image)
        self.images = checked


@dataclass(frozen=True)
class _Chosen:
    """Some entries of a sequence."""

    entries: Any
    chosen: Sequence[int]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Any:
        return self.entries[self.chosen[index]]


def _pair_list(pairs: Any) -> list[tuple[int, int]]:
    listed = [tuple(int(index) for index in pair) for pair in pairs]
    if not listed:
        raise ValueError("No pairs were predicted; align needs at least one.")
    for e, pair in enumerate(listed):
        if len(pair) != 2 or pair[0] == pair[1] or min(pair) < 0:
            raise ValueError(f"Pair {e} must be two different image indices, got {pair}.")
    return listed  # pyright: ignore[reportReturnType]


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to("cpu", torch.float32)
