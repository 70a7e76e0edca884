"""Photographs that a reconstruction can use, and what had to be left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..images import ImageError, NamedImage, split_origin
from .store import tensor_key

logger = logging.getLogger(__name__)


@dataclass
class Photographs:
    """Images that can be used, at the network's size.

    Attributes:
        found: The photographs.
        inputs: What the processor returned for them.
        views: uint8 RGB `(H, W, 3)` at the network's size.
        left_out: Name and reason of each that had to be left out.
        kept: Where each was among those that were given.
    """

    found: list[NamedImage]
    inputs: Any
    views: list[Tensor]
    left_out: list[dict[str, str]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What to call them."""
        return [image.name for image in self.found]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of the photographs."""
        return [(int(width), int(height)) for height, width in self.inputs["original_sizes"]]

    @property
    def timestamps(self) -> list[float] | None:
        """Seconds from the start of the one video that all are frames of, None for others."""
        videos = {split_origin(image.origin or "")[0] for image in self.found}
        seconds = [image.seconds for image in self.found if image.seconds is not None]
        return seconds if len(videos) == 1 and len(seconds) == len(self.found) else None

    def facts(self) -> dict[str, Any]:
        """What a scene's `info` tells of them."""
        facts: dict[str, Any] = {"left_out": self.left_out}
        return facts if self.timestamps is None else facts | {"timestamps": self.timestamps}

    @property
    def pixels(self) -> list[Tensor]:
        """Network inputs `(1, 3, H, W)`."""
        return _pixels(self.inputs)

    def renumber(self, index: int) -> int:
        """The number of a photograph now that some may have been left out.

        Raises:
            ValueError: If it was left out.
        """
        if index not in self.kept:
            raise ValueError(f"Photograph {index} was left out, but something is known of it.")
        return self.kept.index(index)

    def cameras(self, given: Any) -> Any:
        """What is known of the cameras, for those that remain."""
        if not self.left_out or given is None or not isinstance(given, (Mapping, Sequence)):
            return given
        known = given if isinstance(given, Mapping) else dict(enumerate(given))
        return {new: known[old] for new, old in enumerate(self.kept) if old in known}

    def graph(self, given: Any) -> Any:
        """The user's own pairs, those of photographs left out dropped; a name stays as it is."""
        if not self.left_out or isinstance(given, str):
            return given
        pairs: Iterable[tuple[int, int]] = given
        return [(self.renumber(i), self.renumber(j)) for i, j in pairs if {i, j} <= set(self.kept)]

    def distance(self, given: tuple[Any, Any, float] | None) -> tuple[Any, Any, float] | None:
        """A known distance with its photographs' numbers as they are now."""
        if not self.left_out or given is None:
            return given
        first, second = (
            (self.renumber(end[0]), *end[1:]) if isinstance(end, tuple) else self.renumber(end)
            for end in given[:2]
        )
        return first, second, given[2]


def check_found(found: Sequence[NamedImage], skip_bad: bool) -> None:
    """Say that a file is missing, or that there are too few photographs, before weights are loaded.

    Raises:
        ImageError: For a file that is not there, unless bad ones are to be left out.
        ValueError: For fewer than two.
    """
    for image in [] if skip_bad else found:
        if image.path is not None and not Path(image.path).is_file():
            raise ImageError(f"{image.path} does not exist.")
    if len(found) < 2:
        raise ValueError(
            f"A reconstruction needs at least two photographs of the same scene, got {len(found)}."
        )


def read_photographs(found: list[NamedImage], processor: Any, skip_bad: bool) -> Photographs:
    """Read photographs and bring them to the network's size.

    Args:
        found: The photographs.
        processor: The model's image processor.
        skip_bad: Leave out those that cannot be read or occur twice, instead of stopping.

    Raises:
        ImageError: For a photograph that cannot be read, naming it.
        ValueError: For the same photograph twice, or fewer than two that remain.
    """
    given = found
    left_out: list[dict[str, str]] = []
    if skip_bad:
        found, left_out = _readable(found, processor)
        _check_remaining(found, left_out)
    inputs = processor([image.source for image in found])
    twins = _twins(found, _pixels(inputs))
    if twins and not skip_bad:
        first, second = twins[0]
        raise ValueError(
            f"{_label(found[first])} and {_label(found[second])} are the same photograph; give "
            "each once (or skip_bad=True, --skip-bad)."
        )
    if twins:
        reason = "the same photograph as {}"
        repeated = {second: first for first, second in twins}
        left_out += [
            _left_out(found[second], reason.format(found[first].name))
            for second, first in repeated.items()
        ]
        found = [image for index, image in enumerate(found) if index not in repeated]
        _check_remaining(found, left_out)
        inputs = processor([image.source for image in found])
    kept = [index for index, image in enumerate(given) if any(image is f for f in found)]
    return Photographs(found, inputs, processor.to_images(inputs), left_out, kept)


def _readable(
    found: list[NamedImage], processor: Any
) -> tuple[list[NamedImage], list[dict[str, str]]]:
    def problem(image: NamedImage) -> str | None:
        try:
            processor(image.source)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        problems = list(pool.map(problem, found))
    left_out = [
        _left_out(image, reason)
        for image, reason in zip(found, problems, strict=True)
        if reason is not None
    ]
    return [image for image, reason in zip(found, problems, strict=True) if not reason], left_out


def _left_out(image: NamedImage, reason: str) -> dict[str, str]:
    logger.warning("Left out %s: %s", image.name, reason)
    return {"name": image.name, "reason": reason}


def _check_remaining(found: list[NamedImage], left_out: list[dict[str, str]]) -> None:
    if len(found) < 2 and left_out:
        names = ", ".join(entry["name"] for entry in left_out)
        raise ValueError(
            f"A reconstruction needs at least two photographs, but only {len(found)} remained "
            f"after leaving out {names}."
        )


def _twins(found: list[NamedImage], pixels: list[Tensor]) -> list[tuple[int, int]]:
    """Pairs of (first, later) images that are equal to the network."""
    seen: dict[str, int] = {}
    twins = []
    for index, values in enumerate(pixels):
        first = seen.setdefault(tensor_key(values), index)
        if first != index:
            twins.append((first, index))
    return twins


def _label(image: NamedImage) -> str:
    return image.path or image.name


def _pixels(inputs: Any) -> list[Tensor]:
    values = inputs["pixel_values"]
    return list(values) if isinstance(values, list) else list(values.split(1))
