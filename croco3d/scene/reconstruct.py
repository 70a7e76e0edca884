"""Photographs in, a scene out: everything in one call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..images import ImageError, ImageSource, NamedImage, find_images
from .alignment import align
from .encoded import EncodedImages
from .pairs import Pair, check_connected, make_pairs
from .predict import predict_pairs
from .scene import Scene
from .store import tensor_key

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"


@dataclass
class _Photographs:
    """Images that can be used, at the network's size, and what had to be left out."""

    found: list[NamedImage]
    inputs: Any
    views: list[Tensor]
    left_out: list[dict[str, str]] = field(default_factory=list)


def reconstruct(
    images: ImageSource | Iterable[ImageSource],
    model: str | os.PathLike[str] | nn.Module = DEFAULT_MODEL,
    graph: str | Iterable[Pair] = "complete",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    cameras: Any = None,
    *,
    prefilter: str | None = None,
    method: str | None = None,
    seed: int = 0,
    shared_focal: bool = False,
    known_distance: tuple[Any, Any, float] | None = None,
    every: int = 1,
    image_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_memory: int | str | None = None,
    batch_size: int | None = None,
    skip_bad: bool = False,
    progress: bool | None = None,
) -> Scene:
    """Reconstruct a scene from photographs.

    Args:
        images: Files, folders, a video, PIL images, arrays or tensors; at least two photographs.
        model: A repository, folder or file to load, or a stereo model.
        graph: Which pairs the network sees, see `make_pairs`.
        device: Where to compute; a GPU where there is one by default, or where `model` is.
        dtype: Precision of the computation, such as "bfloat16"; the weights' own by default.
        cameras: What is known of the cameras, in original pixels, see `align`.
        prefilter: Leave out pairs far apart in the sequence, see `make_pairs`.
        method: How to align, see `align`; the closed form for two photographs by default.
        seed: Of everything random in the alignment.
        shared_focal: Whether one camera took all photographs at one focal length.
        known_distance: What makes the scene metric, see `align`.
        every: Take one frame in so many of a video.
        image_size: Side in pixels that the network sees; the model's own by default.
        cache: A folder that keeps predictions, so that an interrupted run goes on where it was.
        max_memory: Refuse work that needs more: bytes, or text such as "8GB".
        batch_size: Pairs decoded together, see `predict_pairs`.
        skip_bad: Go on without photographs that cannot be read or occur twice, and list them in
            `scene.info["left_out"]`.
        progress: Whether to show a progress bar; `None` for when stderr is a terminal.

    Returns:
        The scene, its cameras in original pixels. `scene.info` has the timings in seconds.

    Raises:
        ImageError: For a photograph that cannot be used, naming it.
        ValueError: For fewer than two photographs, photographs that no pair links, and everything
            else that cannot work.
    """
    started = time.perf_counter()
    found = find_images(images, every)
    _check_count(len(found))
    if not skip_bad:
        _check_files(found)
    loaded, processor, autocast = _load(model, device, dtype, image_size)
    seconds = {"load": time.perf_counter() - started}
    photographs = _read(found, processor, skip_bad)
    names = [image.name for image in photographs.found]
    seconds["read"] = time.perf_counter() - started - sum(seconds.values())
    encoded = EncodedImages(
        loaded,
        _pixels(photographs.inputs),
        batch_size or (1 if loaded.device.type == "cpu" else 8),
        autocast,
    )
    pairs = _choose_pairs(encoded, graph, prefilter, names)
    predictions = predict_pairs(
        loaded,
        photographs.inputs,
        pairs,
        images=photographs.views,
        names=names,
        paths=[image.path for image in photographs.found],
        encoded=encoded,
        batch_size=batch_size,
        dtype=autocast,
        cache=cache,
        max_memory=max_memory,
        progress=progress,
    )
    seconds["predict"] = time.perf_counter() - started - sum(seconds.values())
    if method is None and len(names) == 2:
        # Two images need no optimisation, whatever the network says of them.
        method = "pair"
    scene = align(
        predictions,
        method=method,
        cameras=cameras,
        seed=seed,
        shared_focal=shared_focal,
        known_distance=known_distance,
        progress=bool(progress),
    )
    seconds["align"] = time.perf_counter() - started - sum(seconds.values())
    scene.info |= {
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "pairs_predicted": len(predictions),
        "images_encoded": encoded.encoded,
        "left_out": photographs.left_out,
    }
    return scene


def _check_count(count: int) -> None:
    if count < 2:
        raise ValueError(
            f"A reconstruction needs at least two photographs of the same scene, got {count}."
        )


def _check_files(found: Sequence[NamedImage]) -> None:
    """Say that a file is missing before the weights are loaded."""
    for image in found:
        if image.path is not None and not Path(image.path).is_file():
            raise ImageError(f"{image.path} does not exist.")


def _load(
    model: Any, device: Any, dtype: Any, image_size: int | None
) -> tuple[Any, Any, torch.dtype | None]:
    """The model in inference mode, its processor, and the dtype of autocast if that is needed."""
    wanted = _dtype(dtype)
    if isinstance(model, (str, os.PathLike)):
        from ..hub import AutoCroco3D
        from ..hub.sources import open_source

        source = open_source(model).name
        loaded: Any = AutoCroco3D.from_pretrained(source, dtype=wanted or torch.float32)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        autocast = None
    else:
        loaded, source = model, None
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        autocast = wanted if wanted != own else None
    if not (hasattr(loaded, "encode") and hasattr(loaded, "decode")):
        raise ValueError(
            f"{type(loaded).__name__} does not predict pointmaps of two views; give a DUSt3R or "
            "MASt3R model."
        )
    loaded = loaded.eval() if device is None else loaded.to(device).eval()
    return loaded, _processor(loaded, source, image_size), autocast


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    value = getattr(torch, str(dtype), None)
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise ValueError(f"dtype={dtype!r} is unknown; use float32, bfloat16 or float16.")
    return value


def _processor(model: Any, source: str | None, image_size: int | None) -> Any:
    """The processor saved with the weights, or else the one that the model's config asks for."""
    from ..modeling.dust3r import Dust3rImageProcessor

    changed: dict[str, Any] = {} if image_size is None else {"size": image_size}
    if source is not None and not Path(source).is_file():
        try:
            return Dust3rImageProcessor.from_pretrained(source, **changed)
        except OSError:
            logger.debug("%s holds no preprocessor_config.json; built from its config.", source)
    return Dust3rImageProcessor.from_model_config(model.config, **changed)


def _read(found: list[NamedImage], processor: Any, skip_bad: bool) -> _Photographs:
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
    return _Photographs(found, inputs, processor.to_images(inputs), left_out)


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


def _choose_pairs(
    encoded: EncodedImages, graph: Any, prefilter: str | None, names: list[str]
) -> list[Pair]:
    retrieval = isinstance(graph, str) and graph.startswith("retrieval")
    features = encoded.pooled() if retrieval else None
    pairs = make_pairs(len(names), graph, prefilter=prefilter, features=features)
    check_connected(len(names), pairs, names)
    return pairs
