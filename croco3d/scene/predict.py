"""Pairs of images through the network: every image encoded once, every pair decoded once."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .encoded import EncodedImages
from .memory import BYTES_PER_OBSERVATION, MemoryPlan, module_bytes, working_bytes
from .pairs import Pair, distinct_pairs
from .predictions import PairPredictions
from .processes import meet, process_count, process_rank
from .store import (
    MAPS,
    FolderStore,
    MemoryStore,
    Store,
    StoredMaps,
    cache_folder,
    model_key,
    tensor_key,
)

logger = logging.getLogger(__name__)

# Below this many bytes of predictions, they are kept in float32, which leaves no steps in surfaces.
FLOAT32_LIMIT = 512 * 10**6


def predict_pairs(
    model: Any,
    inputs: Any,
    pairs: Iterable[Pair],
    *,
    images: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    paths: Sequence[str | None] | None = None,
    encoded: EncodedImages | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_memory: int | str | None = None,
    progress: bool | None = None,
) -> PairPredictions:
    """Run a stereo model on pairs of images.

    Every image is encoded once, when its first pair comes up, and forgotten after its last. Pairs
    are decoded in batches of equal sizes and orientations. Under accelerate or torchrun the pairs
    are divided between the processes, which meet in the `cache` folder.

    Args:
        model: A stereo model with `encode`, `decode` and `device`, such as `Dust3rForStereo`.
        inputs: What `Dust3rImageProcessor` returned for the images.
        pairs: Ordered pairs of image indices; self pairs and repetitions are left out.
        images: uint8 RGB `(H, W, 3)` an image at the network's size, passed on.
        names: What to call the images in messages, passed on.
        paths: The images' files, passed on.
        encoded: Images encoded already, such as for retrieval; they bring batch size and dtype.
        batch_size: Pairs decoded together; `None` for 1 on a CPU, where more are slower a pair,
            and 8 elsewhere.
        dtype: Compute under autocast in this dtype; `None` for the model's own.
        cache: A folder to keep predictions in. What is there for the same images, model and
            dtype is not computed again, also after an interruption.
        max_memory: Refuse work that needs more: bytes, or text such as "8GB".
        progress: Whether to show a progress bar; `None` for when stderr is a terminal.

    Returns:
        The predictions, in memory or reading from `cache`.

    Raises:
        ValueError: If `max_memory` does not suffice, or several processes have no `cache`.
    """
    listed = distinct_pairs(pairs)
    if encoded is None:
        encoded = EncodedImages(model, _as_list(inputs["pixel_values"]), batch_size, dtype)
    order = _order(listed, encoded)
    store_dtype = _store_dtype(listed, encoded)
    plan = plan_memory(encoded, listed, order, store_dtype, in_memory=cache is None)
    logger.info("Predicting %d pairs of %d images needs about %s.", len(listed), len(encoded), plan)
    plan.check(max_memory)
    store = _open_store(encoded, listed, cache, store_dtype)
    _run(model, encoded, listed, _share(order, cache), store, progress)
    stored = store.names(0)
    maps = {name: StoredMaps(store, name, len(listed)) for name in MAPS if name in stored}
    return PairPredictions(
        listed,
        maps["pointmap1"],
        maps["pointmap2"],
        maps.get("confidence1"),
        maps.get("confidence2"),
        images=images,
        original_sizes=[(int(w), int(h)) for h, w in inputs["original_sizes"]],
        pixel_to_original=[torch.from_numpy(np.asarray(m)) for m in inputs["pixel_to_original"]],
        names=names,
        paths=paths,
        sizes=[encoded.size(image) for image in range(len(encoded))],
    )


def plan_memory(
    encoded: EncodedImages,
    pairs: Sequence[Pair],
    order: Sequence[Sequence[int]],
    store_dtype: torch.dtype,
    in_memory: bool,
) -> MemoryPlan:
    """Say what prediction and alignment will hold at their peak.

    Args:
        encoded: The images.
        pairs: The pairs of images.
        order: Batches of indices into `pairs`, as they will be decoded.
        store_dtype: What predictions are kept in.
        in_memory: Whether they are kept in memory.
    """
    model = encoded.model
    parameter = next(iter(model.parameters()), None)
    dtype = encoded.dtype or (torch.float32 if parameter is None else parameter.dtype)
    pixels = max((_pair_pixels(pairs, encoded, batch) for batch in order), default=0)
    return MemoryPlan(
        inputs=sum(pixels.nbytes for pixels in encoded.pixel_values),
        weights=module_bytes(model),
        features=min(len(encoded), _most_held(pairs, order) + encoded.batch_size)
        * _feature_bytes(encoded, dtype),
        working=working_bytes(pixels, dtype),
        store=_pair_pixels(pairs, encoded, range(len(pairs))) * 4 * store_dtype.itemsize
        if in_memory
        else 0,
        alignment=_alignment_bytes(pairs, encoded),
    )


def _as_list(pixel_values: Any) -> list[Tensor]:
    if isinstance(pixel_values, (list, tuple)):
        return [torch.as_tensor(value).reshape(1, *value.shape[-3:]) for value in pixel_values]
    return list(torch.as_tensor(pixel_values).split(1))


def _order(pairs: Sequence[Pair], encoded: EncodedImages) -> list[list[int]]:
    """Batches of pairs of equal sizes, neighbours together so that few images are held at once."""
    groups: dict[Any, list[int]] = {}
    for number in sorted(range(len(pairs)), key=lambda n: (max(pairs[n]), min(pairs[n]))):
        i, j = pairs[number]
        groups.setdefault((encoded.size(i), encoded.size(j)), []).append(number)
    batches = [
        group[start : start + encoded.batch_size]
        for group in groups.values()
        for start in range(0, len(group), encoded.batch_size)
    ]
    return sorted(batches, key=lambda batch: max(pairs[batch[0]]))


def _most_held(pairs: Sequence[Pair], order: Sequence[Sequence[int]]) -> int:
    """How many encoded images are held at once at most."""
    remaining = Counter(image for pair in pairs for image in pair)
    held: set[int] = set()
    most = 0
    for batch in order:
        images = [image for number in batch for image in pairs[number]]
        held |= set(images)
        most = max(most, len(held))
        remaining.subtract(images)
        held -= {image for image in images if remaining[image] <= 0}
    return most


def _feature_bytes(encoded: EncodedImages, dtype: torch.dtype) -> int:
    """Bytes of one image's tokens."""
    encoder = getattr(encoded.model, "encoder", None)
    if encoder is None or not len(encoded):
        return 0
    tokens = max(h * w for h, w in map(encoded.size, range(len(encoded)))) // encoder.patch_size**2
    return tokens * (encoder.hidden_size * dtype.itemsize + 16)


def _pair_pixels(pairs: Sequence[Pair], encoded: EncodedImages, numbers: Iterable[int]) -> int:
    sizes = (encoded.size(image) for number in numbers for image in pairs[number])
    return sum(height * width for height, width in sizes)


def _alignment_bytes(pairs: Sequence[Pair], encoded: EncodedImages) -> int:
    """Bytes of the image with the most predictions, and of the scene's maps."""
    pixels = [height * width for height, width in map(encoded.size, range(len(encoded)))]
    seen = Counter(image for pair in pairs for image in pair)
    most = max((count * pixels[image] for image, count in seen.items()), default=0)
    # Points, depth and confidence in float32, colours in bytes.
    return most * BYTES_PER_OBSERVATION + sum(pixels) * (5 * 4 + 3)


def _store_dtype(pairs: Sequence[Pair], encoded: EncodedImages) -> torch.dtype:
    small = _pair_pixels(pairs, encoded, range(len(pairs))) * 16 <= FLOAT32_LIMIT
    return torch.float32 if small else torch.float16


def _open_store(
    encoded: EncodedImages, pairs: Sequence[Pair], cache: Any, store_dtype: torch.dtype
) -> Store:
    if cache is None:
        return MemoryStore(store_dtype)
    keys = [tensor_key(pixels) for pixels in encoded.pixel_values]
    model = model_key(encoded.model, dtype=str(encoded.dtype), store_dtype=str(store_dtype))
    folder = cache_folder(cache, model)
    return FolderStore(Path(folder), [(keys[i], keys[j]) for i, j in pairs], store_dtype)


def _share(order: list[list[int]], cache: Any) -> list[list[int]]:
    """The batches of this process: a run of neighbours, which share images."""
    count, rank = process_count(), process_rank()
    if count == 1:
        return order
    if cache is None:
        raise ValueError(
            f"{count} processes need a folder that all of them see, to put their predictions "
            "together: give cache= (--cache)."
        )
    return order[rank * len(order) // count : (rank + 1) * len(order) // count]


def _run(
    model: Any,
    encoded: EncodedImages,
    pairs: Sequence[Pair],
    order: Sequence[Sequence[int]],
    store: Store,
    progress: bool | None,
) -> None:
    todo = [[number for number in batch if number not in store] for batch in order]
    done = sum(map(len, order)) - sum(map(len, todo))
    if done:
        logger.info("%d pairs are in the cache already.", done)
    upcoming = [image for batch in todo for number in batch for image in pairs[number]]
    remaining = Counter(upcoming)
    ahead = list(dict.fromkeys(upcoming))
    disable = None if progress is None else not progress
    with tqdm(total=done + sum(map(len, todo)), initial=done, unit="pair", disable=disable) as bar:
        for batch in filter(None, todo):
            images = [image for number in batch for image in pairs[number]]
            encoded.require(images, (image for image in ahead if remaining[image] > 0))
            for number, maps in zip(batch, _decode(model, encoded, pairs, batch), strict=True):
                store.write(number, maps)
            remaining.subtract(images)
            encoded.drop(image for image in images if remaining[image] <= 0)
            bar.update(len(batch))
    meet()


@torch.no_grad()
def _decode(
    model: Any, encoded: EncodedImages, pairs: Sequence[Pair], batch: Sequence[int]
) -> list[dict[str, Tensor]]:
    first = encoded.gather([pairs[number][0] for number in batch])
    second = encoded.gather([pairs[number][1] for number in batch])
    with encoded.precision():
        output = model.decode(first, second)
    found = {name: output.get(name) for name in MAPS}
    return [
        {name: values[row] for name, values in found.items() if values is not None}
        for row in range(len(batch))
    ]
