"""Photographs in, a scene out: everything in one call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..images import ImageSource, find_images
from .alignment import align
from .encoded import EncodedImages
from .pairs import Pair, check_connected, make_pairs
from .photographs import check_found, read_photographs
from .predict import predict_pairs
from .processes import own_device
from .scene import Scene

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"


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
    min_pair_confidence: float | None = None,
    every: int = 1,
    image_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_memory: int | str | None = None,
    batch_size: int | None = None,
    skip_bad: bool = False,
    optimize: bool = True,
    progress: bool | None = None,
) -> Scene:
    """Reconstruct a scene from photographs.

    Args:
        images: Files, folders, a video, PIL images, arrays or tensors; at least two photographs.
        model: A repository, folder or file to load, or a stereo model.
        graph: Which pairs the network sees, see `make_pairs`.
        device: Where to compute; a GPU where there is one by default, or where `model` is.
        dtype: Precision of the computation, such as "bfloat16"; the weights' own by default.
        cameras: What is known of the cameras, in original pixels, see `align`. Numbers of
            photographs, here and elsewhere, are those of the `images` as given.
        prefilter: Leave out pairs far apart in the sequence, see `make_pairs`.
        method: How to align, see `align`; the closed form for two photographs by default.
        seed: Of everything random in the alignment.
        shared_focal: Whether one camera took all photographs at one focal length.
        known_distance: What makes the scene metric, see `align`.
        min_pair_confidence: Which pairs count, see `min_confidence` of `align`.
        every: Take one frame in so many of a video.
        image_size: Side in pixels that the network sees; the model's own by default.
        cache: A folder that keeps predictions, so that an interrupted run goes on where it was.
        max_memory: Refuse work that needs more: bytes, or text such as "8GB".
        batch_size: Pairs decoded together, see `predict_pairs`.
        skip_bad: Go on without photographs that cannot be read or occur twice, and list them in
            `scene.info["left_out"]`.
        optimize: Predict in the layout that runs fastest on a CPU, equal to about 1e-5, see
            `optimize_for_inference`. A model given as an object is restored afterwards.
        progress: Whether to show a progress bar; `None` for when stderr is a terminal.

    Returns:
        The scene, its cameras in original pixels. `scene.info` has the timings in seconds.

    Raises:
        ImageError: For a photograph that cannot be used, naming it.
        ValueError: For fewer than two photographs, photographs that no pair links, and everything
            else that cannot work.
    """
    clock = _Clock()
    found = find_images(images, every)
    check_found(found, skip_bad)
    loaded, processor, autocast = _load(model, device, dtype, image_size)
    clock.stop("load")
    photographs = read_photographs(found, processor, skip_bad)
    clock.stop("read")
    with _inference(loaded, optimize and autocast is None, restore=isinstance(model, nn.Module)):
        batch_size = batch_size or (1 if loaded.device.type == "cpu" else 8)
        encoded = EncodedImages(loaded, photographs.pixels, batch_size, autocast)
        predictions = predict_pairs(
            loaded,
            photographs.inputs,
            _choose_pairs(encoded, photographs.graph(graph), prefilter, photographs.names),
            images=photographs.views,
            names=photographs.names,
            paths=[image.origin for image in photographs.found],
            encoded=encoded,
            batch_size=batch_size,
            dtype=autocast,
            cache=cache,
            max_memory=max_memory,
            progress=progress,
        )
    clock.stop("predict")
    scene = align(
        predictions,
        # Two images need no optimisation, whatever the network says of them.
        method="pair" if method is None and len(photographs.found) == 2 else method,
        cameras=photographs.cameras(cameras),
        seed=seed,
        shared_focal=shared_focal,
        known_distance=photographs.distance(known_distance),
        min_confidence=min_pair_confidence,
        progress=bool(progress),
    )
    clock.stop("align")
    scene.info |= {
        "seconds": clock.seconds,
        "pairs_predicted": len(predictions),
        "images_encoded": encoded.encoded,
        "left_out": photographs.left_out,
    }
    if photographs.timestamps is not None:
        scene.info["timestamps"] = photographs.timestamps
    return scene


class _Clock:
    """Seconds of stages that follow each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def stop(self, stage: str) -> None:
        """End a stage and start the next."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._started, 3)
        self._started = now


@contextmanager
def _inference(model: Any, fast: bool, restore: bool) -> Iterator[None]:
    """Evaluation mode and, if wanted, the fast layout; afterwards the model is as it was.

    Restoring copies all weights, which a model that nobody else holds is spared.
    """
    training = model.training
    # A user's own choice of layout, perhaps in another precision, is left alone.
    exchange = fast and getattr(model, "is_optimized", None) is False
    model.eval()
    try:
        if exchange:
            model.optimize_for_inference()
        yield
    finally:
        if exchange and restore:
            model.restore()
        model.train(training)


def _load(
    model: Any, device: Any, dtype: Any, image_size: int | None
) -> tuple[Any, Any, torch.dtype | None]:
    """The model, its processor, and the dtype of autocast if that is needed."""
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
    loaded = loaded if device is None else loaded.to(own_device(str(device)))
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


def _choose_pairs(
    encoded: EncodedImages, graph: Any, prefilter: str | None, names: list[str]
) -> list[Pair]:
    retrieval = isinstance(graph, str) and graph.startswith("retrieval")
    features = encoded.pooled() if retrieval else None
    pairs = make_pairs(len(names), graph, prefilter=prefilter, features=features)
    check_connected(len(names), pairs, names)
    return pairs
