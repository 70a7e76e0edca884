"""The app's model in memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..scene import LoadedModel, Scene, load_model, reconstruct


class KeptModel:
    """Reconstructs scenes and keeps the model of the last one, so that it is loaded once.

    There is never more than one in memory: another is loaded after the last one has gone. Scenes
    are made one after the other.

    Args:
        device: Where to compute; a GPU where there is one by default.
        dtype: Precision of the computation, such as "bfloat16"; the weights' own by default.
        load: Loads a model, called as `load(model, device, dtype)`.
    """

    def __init__(
        self,
        device: str | None = None,
        dtype: str | None = None,
        load: Callable[..., LoadedModel] = load_model,
    ) -> None:
        self.device, self.dtype = device, dtype
        self._load = load
        self._kept: tuple[tuple[str, str | None], LoadedModel] | None = None
        self._lock = threading.Lock()

    def __call__(
        self, paths: Sequence[Any], *, model: str, graph: str = "complete", dtype: str | None = None
    ) -> Scene:
        """Make a scene.

        Args:
            paths: The photographs.
            model: A model's name.
            graph: Which pairs are predicted, see `croco3d.scene.make_pairs`.
            dtype: Another precision than the usual one.

        Returns:
            The scene.

        Raises:
            ValueError: As `croco3d.reconstruct` and `croco3d.scene.load_model`.
        """
        with self._lock:
            loaded = self._get((model, dtype or self.dtype))
            return reconstruct(paths, loaded, graph, progress=False)

    def _get(self, key: tuple[str, str | None]) -> LoadedModel:
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self._kept = None
        # Modules refer to themselves, so that they would stay while the next one is loaded.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        loaded = self._load(key[0], self.device, key[1])
        self._kept = (key, loaded)
        return loaded
