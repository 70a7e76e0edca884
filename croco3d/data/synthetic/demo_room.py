"""The bundled demonstration room: how its pictures and geometry were made."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from ...files import atomic_path
from .attributions import attribution_rows, write_attributions
from .cameras import CameraSettings
from .effects import PhotoSettings
from .generate import RoomSettings, make_renderer, render_room
from .shards import RoomShard

DEMO_SEED = 1014
DEMO_VIEWS = 6
DEPTH_STRIDE = 2


def demo_settings() -> RoomSettings:
    """A room of the test split, seen from six places with one lens and little noise."""
    cameras = CameraSettings(
        views=DEMO_VIEWS,
        cluster=DEMO_VIEWS,
        fov=(65.0, 65.0),
        fov_jitter=0.0,
        height=(1.2, 1.8),
        baseline=(0.12, 0.5),
        turn=12.0,
    )
    photo = PhotoSettings(exposure_error=0.1, white_balance=0.02, blur=0.31, motion=1.0, noise=0.01)
    return RoomSettings("test", (512, 384), "furniture", cameras, photo, supersample=2)


def write_demo_room(folder: str | Path, seed: int = DEMO_SEED) -> RoomShard:
    """Render the demonstration room.

    Args:
        folder: gets `view_0.jpg` to `view_5.jpg`; `truth.safetensors` with `depth`
            `(6, 192, 256)` float16 (metres, of every second pixel of every second row),
            `intrinsics` `(6, 3, 3)` in pixels of the pictures and `cam2world` `(6, 4, 4)`; and
            `attributions.csv`, the authors of the models and textures it was made from.
        seed: of the room.

    Returns:
        What was rendered, at full size.

    Raises:
        FileNotFoundError: If the furniture is not installed.
        RendererUnavailableError: Where rooms cannot be rendered.
    """
    folder = Path(folder)
    settings = replace(demo_settings(), min_overlap=0.0)
    renderer = make_renderer(settings)
    try:
        shard = render_room(renderer, settings, seed)
    finally:
        renderer.close()
    for index, image in enumerate(shard.images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
        _write(folder / f"view_{index}.jpg", buffer.getvalue())
    truth = {
        "depth": np.ascontiguousarray(shard.depths[:, ::DEPTH_STRIDE, ::DEPTH_STRIDE]),
        "intrinsics": shard.intrinsics,
        "cam2world": shard.cam2world,
    }
    _write(folder / "truth.safetensors", save(truth))
    # All models of the split: walls and floors may wear the texture of one that is not placed.
    write_attributions(folder / "attributions.csv", attribution_rows(renderer.catalogue))
    return shard


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
