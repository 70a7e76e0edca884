"""Stereo pairs with depth as samples for training: the one place where frames become tensors."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .augment import Augment, normalize
from .draws import FileDataset, Resolution, Sample
from .frames import PairSource
from .loading import LoadedFrame, load_frame
from .windows import Window, largest_window

Crop = Literal["center", "keep"]
Portrait = Literal["crop", "swap", "transpose"]

_SWAP_AXES = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


class PairDataset(FileDataset):
    """Pairs of posed images with depth, cropped and resized exactly.

    A sample has, for both views (suffix 1 and 2), `pixel_values` `(3, H, W)` in [-1, 1];
    `pointmap` `(H, W, 3)` in the world frame and `depth` `(H, W)`, zero where invalid; `valid`
    `(H, W)` bool; `cam2world` `(4, 4)`; `intrinsics` `(3, 3)` in pixels of the network input;
    `true_shape` `(2,)` long (height, width); `name`; and `dataset` once. Everywhere
    `intrinsics @ world2cam @ pointmap` is the stored pixel (column, row), transposed or not.

    Args:
        source: The frames and pairs, from a reader.
        resolution: One side or `(width, height)`, or several to choose from by draw.
        augment: Colour jitter, zoom and mirroring; None for none (validation).
        crop: "center" crops around the principal point, which comes to lie at the centre
            ((W - 1) / 2, (H - 1) / 2); "keep" takes the largest window and keeps an off-centre
            principal point exact.
        portrait: For upright images at a landscape resolution: "crop" crops a landscape out of
            them; "swap" gives upright samples of (height, width), which only batches of one allow;
            "transpose" stores those transposed, with `true_shape` saying so. The intrinsics of a
            transposed view have their first two rows exchanged.
        seed: What, with epoch and index, decides a sample.
        min_valid: A view with fewer valid pixels counts as unreadable.
        max_unreadable: How many different pairs may be unreadable before an error names them.
    """

    def __init__(
        self,
        source: PairSource,
        resolution: int | Resolution | Sequence[Resolution],
        augment: Augment | None = None,
        crop: Crop = "center",
        portrait: Portrait = "crop",
        seed: int = 0,
        min_valid: int = 16,
        max_unreadable: int = 100,
    ) -> None:
        if crop not in ("center", "keep"):
            raise ValueError(f"crop={crop!r} must be 'center' or 'keep'.")
        if portrait not in ("crop", "swap", "transpose"):
            raise ValueError(f"portrait={portrait!r} must be 'crop', 'swap' or 'transpose'.")
        super().__init__(len(source), resolution, seed, max_unreadable)
        self.source, self.augment = source, augment
        self.crop: Crop = crop
        self.portrait: Portrait = portrait
        self.min_valid = min_valid

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """How often `Resampled` draws each pair, relative to the others."""
        return self.source.weights

    def describe(self, index: int) -> str:
        """Name a pair for messages."""
        first, second = self.source.pair(index)
        return f"{self.source.name} pair {index} ({first.name}, {second.name})"

    def load(self, index: int, resolution: Resolution, rng: np.random.Generator) -> Sample:
        """Read one pair."""
        sample: Sample = {"dataset": self.source.name}
        mirror = self.augment is not None and self.augment.draw_mirror(rng)
        for number, frame in enumerate(self.source.pair(index), start=1):
            loaded = load_frame(frame)
            view = self._view(loaded.mirrored() if mirror else loaded, resolution, rng)
            for key, value in view.items():
                sample[f"{key}{number}"] = value
        return sample

    def _view(
        self, loaded: LoadedFrame, resolution: Resolution, rng: np.random.Generator
    ) -> Sample:
        upright = loaded.size[1] > loaded.size[0] and resolution[0] > resolution[1]
        turned = upright and self.portrait != "crop"
        out_size = (resolution[1], resolution[0]) if turned else resolution
        window = self._window(loaded, out_size, rng)
        pixels = torch.from_numpy(np.array(window.resize_image(Image.fromarray(loaded.image))))
        pixels = pixels.permute(2, 0, 1)
        if self.augment is not None:
            pixels = self.augment.jitter(pixels, rng)
        view = geometry_of_window(loaded, window)
        if view["valid"].sum() < self.min_valid:
            raise ValueError(
                f"{loaded.name} has {view['valid'].sum()} valid depth pixels at {out_size[0]}x"
                f"{out_size[1]}, fewer than min_valid={self.min_valid}"
            )
        sample: Sample = {key: torch.from_numpy(value) for key, value in view.items()}
        sample["pixel_values"] = normalize(pixels)
        if turned and self.portrait == "transpose":
            sample = _transpose(sample)
        sample["true_shape"] = torch.tensor([out_size[1], out_size[0]])
        sample["name"] = loaded.name
        return sample

    def _window(
        self, loaded: LoadedFrame, out_size: Resolution, rng: np.random.Generator
    ) -> Window:
        zoom, shift = 1.0, (0.5, 0.5)
        if self.augment is not None:
            zoom = self.augment.draw_zoom(rng)
            shift = (float(rng.uniform()), float(rng.uniform()))
        center = None
        if self.crop == "center":
            center = (float(loaded.intrinsics[0, 2]), float(loaded.intrinsics[1, 2]))
        return largest_window(loaded.size, center, out_size, zoom, shift)


def geometry_of_window(loaded: LoadedFrame, window: Window) -> dict[str, NDArray]:
    """Carry a frame's depth and camera through a window.

    Returns:
        depth `(H, W)` and pointmap `(H, W, 3)` (world frame), float32, zero where invalid; valid
        `(H, W)` bool; intrinsics `(3, 3)` and cam2world `(4, 4)`, float32.
    """
    sample = window.scatter_nearest if loaded.sparse_depth else window.sample_nearest
    depth = sample(loaded.depth, loaded.size)
    intrinsics = window.matrix() @ loaded.intrinsics
    # The ray of a pixel in the world: one column of the matrix for each of (column, row, 1). Planes
    # of coordinates are filled first, since numpy is slow at triples.
    rays = loaded.cam2world[:3, :3] @ np.linalg.inv(intrinsics)
    across, down, ahead = (column[:, None, None] for column in rays.T)
    columns, rows = np.arange(depth.shape[1]), np.arange(depth.shape[0])[:, None]
    valid = depth > 0
    points = (columns * across + (rows * down + ahead)) * depth
    points += loaded.cam2world[:3, 3, None, None]
    points = np.where(valid, points, 0)
    return {
        "depth": depth.astype(np.float32),
        "pointmap": np.ascontiguousarray(points.transpose(1, 2, 0), dtype=np.float32),
        "valid": valid,
        "intrinsics": intrinsics.astype(np.float32),
        "cam2world": loaded.cam2world.astype(np.float32),
    }


def _transpose(view: Sample) -> Sample:
    """Store an upright view lying: rows become columns in every map."""
    result = {
        "pixel_values": view["pixel_values"].transpose(1, 2).contiguous(),
        "intrinsics": torch.from_numpy(_SWAP_AXES).to(view["intrinsics"].dtype)
        @ view["intrinsics"],
        "cam2world": view["cam2world"],
    }
    for key in ("depth", "pointmap", "valid"):
        result[key] = view[key].transpose(0, 1).contiguous()
    return result
