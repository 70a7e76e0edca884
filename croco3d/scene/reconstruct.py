"""Photographs in, a scene out: everything in one call."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..images import ImageSource, find_images
from .alignment import align, check_request
from .encoded import EncodedImages
from .loading import DEFAULT_MODEL, LoadedModel, load_model
from .pairs import Pair, check_connected, make_pairs
from .photographs import check_found, read_photographs
from .predict import predict_pairs
from .scene import Scene


def reconstruct(
    images: ImageSource | Iterable[ImageSource],
    model: str | os.PathLike[str] | nn.Module | LoadedModel = DEFAULT_MODEL,
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
        model: A repository, folder or file to load, a stereo model, or what `load_model` returned,
            which then has its own device, precision and size already.
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
    loaded = _loaded(model, device=device, dtype=dtype, image_size=image_size)
    clock.stop("load")
    photographs = read_photographs(found, loaded.processor, skip_bad)
    # Two images need no optimisation, whatever the network says of them.
    method = "pair" if method is None and len(photographs.found) == 2 else method
    cameras, known_distance = photographs.cameras(cameras), photographs.distance(known_distance)
    check_request(photographs.sizes, photographs.names, method, cameras, known_distance)
    clock.stop("read")
    with _inference(loaded, optimize):
        encoded = EncodedImages(loaded.network, photographs.pixels, batch_size, loaded.autocast)
        predictions = predict_pairs(
            loaded.network,
            photographs.inputs,
            _choose_pairs(encoded, photographs.graph(graph), prefilter, photographs.names),
            images=photographs.views,
            names=photographs.names,
            paths=[image.origin for image in photographs.found],
            encoded=encoded,
            cache=cache,
            max_memory=max_memory,
            progress=progress,
        )
    clock.stop("predict")
    scene = align(
        predictions,
        method=method,
        cameras=cameras,
        seed=seed,
        shared_focal=shared_focal,
        known_distance=known_distance,
        min_confidence=min_pair_confidence,
        progress=bool(progress),
    )
    clock.stop("align")
    counts = {"pairs_predicted": len(predictions), "images_encoded": encoded.encoded}
    scene.info |= {"seconds": clock.seconds, **counts} | photographs.facts()
    return scene


def _loaded(model: Any, **wanted: Any) -> LoadedModel:
    """The model as it was loaded before, or loaded now."""
    if not isinstance(model, LoadedModel):
        return load_model(model, **wanted)
    changed = [name for name, value in wanted.items() if value is not None]
    if changed:
        raise ValueError(f"The model is loaded already; give load_model its {', '.join(changed)}.")
    return model


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
def _inference(loaded: LoadedModel, optimize: bool) -> Iterator[None]:
    """Evaluation mode and, if wanted, the fast layout; a borrowed model is as it was afterwards.

    Restoring copies all weights, which a model that nobody else holds is spared.
    """
    model = loaded.network
    training = model.training
    # A user's own choice of layout, perhaps in another precision, is left alone.
    fast = optimize and loaded.autocast is None and getattr(model, "is_optimized", None) is False
    model.eval()
    try:
        if fast:
            model.optimize_for_inference()
        yield
    finally:
        if fast and loaded.borrowed:
            model.restore()
        model.train(training)


def _choose_pairs(
    encoded: EncodedImages, graph: Any, prefilter: str | None, names: list[str]
) -> list[Pair]:
    retrieval = isinstance(graph, str) and graph.startswith("retrieval")
    features = encoded.pooled() if retrieval else None
    pairs = make_pairs(len(names), graph, prefilter=prefilter, features=features)
    check_connected(len(names), pairs, names)
    return pairs
