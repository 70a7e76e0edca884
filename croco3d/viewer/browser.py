"""A scene in the browser with viser: points, camera frusta with images, confidence slider."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..scene import Scene, fuse
from ..scene.export.glb import camera_color, scene_extent
from ..scene.fusion import pixel_footprint, valid_masks
from ..scene.rendering import oblique_camera, scene_splats

logger = logging.getLogger(__name__)

_IMAGE_SIDE = 320
_BACKGROUND = (23, 26, 33)


@dataclass(eq=False)
class ViewerHandles:
    """What `fill_viewer` put on a server; setting the inputs' `value` changes the view.

    Attributes:
        cloud: The points shown.
        frusta: One camera an image.
        confidence: Slider, percent of the points left out, the least confident ones.
        point_size: Slider, 1 for points as wide as a pixel.
        show_cameras: Checkbox.
    """

    cloud: Any
    frusta: list[Any]
    confidence: Any
    point_size: Any
    show_cameras: Any


def view_scene(scene: Scene, *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve a scene to the browser until Ctrl-C.

    Args:
        scene: The scene.
        host: Address to listen on; by default only this machine can connect.
        port: Where to listen; the next free port is taken if it is in use.

    Raises:
        ImportError: If viser is not installed.
    """
    server = _viser().ViserServer(host=host, port=port, label="croco3d", verbose=False)
    try:
        fill_viewer(server, scene)
        logger.info("Open http://%s:%d in a browser; Ctrl-C ends.", host, server.get_port())
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        logger.info("Closed the viewer.")
    finally:
        server.stop()


def _viser() -> Any:
    try:
        return import_module("viser")
    except ImportError as error:
        raise ImportError(
            f'The viewer needs viser: pip install "croco3d[viewer]" ({error}).'
        ) from error


def fill_viewer(server: Any, scene: Scene, *, max_points: int = 2_000_000) -> ViewerHandles:
    """Put a scene and its controls on a viser server.

    Args:
        server: A `viser.ViserServer`.
        scene: The scene.
        max_points: Of a larger cloud, a random sample of this size is shown.

    Returns:
        The handles of what was made.
    """
    cloud = fuse(scene, voxel_size="auto")
    order = np.argsort(-cloud.confidences, kind="stable")
    if len(order) > max_points:
        order = np.sort(np.random.default_rng(0).choice(len(order), max_points, replace=False))
        order = order[np.argsort(-cloud.confidences[order], kind="stable")]
    points, colors = cloud.points[order], cloud.colors[order]
    extent = scene_extent(points, scene.cameras)
    axis = scene.up_axis
    server.scene.set_up_direction(axis if axis.startswith("-") else f"+{axis}")
    # Walls are often as bright as the page, and would not be seen on it.
    server.gui.configure_theme(dark_mode=True)
    server.scene.set_background_image(np.full((1, 1, 3), _BACKGROUND, np.uint8), format="png")
    size = _point_size(scene, len(points), extent)
    shown = server.scene.add_point_cloud(
        "/points", points, colors, point_size=size, point_shape="circle", precision="float32"
    )
    frusta = [_add_frustum(server, scene, index, extent / 18) for index in range(len(scene))]
    with server.gui.add_folder("Scene"):
        confidence = server.gui.add_slider(
            "Leave out least confident, %", min=0, max=99, step=1, initial_value=0
        )
        point_size = server.gui.add_slider("Point size", min=0.2, max=5, step=0.1, initial_value=1)
        show_cameras = server.gui.add_checkbox("Show cameras", initial_value=True)
    _stand_behind_cameras(server, scene)
    handles = ViewerHandles(shown, frusta, confidence, point_size, show_cameras)
    _connect(handles, points, colors)
    return handles


def _point_size(scene: Scene, count: int, extent: float) -> float:
    """A pixel's width, which is about how far points of a fused cloud are apart."""
    return pixel_footprint(scene, valid_masks(scene)) or extent / max(count, 1) ** 0.5


def _stand_behind_cameras(server: Any, scene: Scene) -> None:
    """Let visitors start with a view of the scene and of its cameras, which fills the window."""
    splats = scene_splats(scene, max_points=50_000)
    if not len(splats.points):
        return
    camera = oblique_camera(scene, splats, 4, 3)
    pose, k = camera.cam2world.numpy(), camera.intrinsics.numpy()
    # Browsers look at the middle of their window, and turn about what is there.
    middle = pose[:3, :3] @ [(2 - k[0, 2]) / k[0, 0], (1.5 - k[1, 2]) / k[1, 1], 1]
    start = server.initial_camera
    start.position = tuple(pose[:3, 3])
    distance = np.linalg.norm(np.median(splats.points, axis=0) - pose[:3, 3])
    start.look_at = tuple(pose[:3, 3] + distance * middle / np.linalg.norm(middle))
    start.up = tuple(-pose[:3, 1])
    start.fov = 2 * math.atan(1.5 / float(k[1, 1]))


def _connect(handles: ViewerHandles, points: NDArray, colors: NDArray) -> None:
    """Make the controls act; points come with the most confident first."""
    size = handles.cloud.point_size

    @handles.confidence.on_update
    def _(_: Any) -> None:
        kept = math.ceil(len(points) * (1 - handles.confidence.value / 100))
        handles.cloud.points, handles.cloud.colors = points[:kept], colors[:kept]

    @handles.point_size.on_update
    def _(_: Any) -> None:
        handles.cloud.point_size = size * handles.point_size.value

    @handles.show_cameras.on_update
    def _(_: Any) -> None:
        for frustum in handles.frusta:
            frustum.visible = handles.show_cameras.value


def _add_frustum(server: Any, scene: Scene, index: int, scale: float) -> Any:
    """Add a camera with its image; a click takes the browser's camera there."""
    camera = scene.cameras[index]
    pose = camera.cam2world.double().numpy()
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    image = scene.images[index].numpy()
    step = max(1, math.ceil(max(image.shape[:2]) / _IMAGE_SIDE))
    frustum = server.scene.add_camera_frustum(
        f"/cameras/{index:04d}",
        fov=2 * math.atan2(camera.height / 2, float(camera.intrinsics[1, 1])),
        aspect=camera.width / camera.height,
        scale=scale,
        color=tuple(int(c) for c in camera_color(index, len(scene))),
        image=np.ascontiguousarray(image[::step, ::step]),
        wxyz=(w, x, y, z),
        position=tuple(pose[:3, 3]),
    )

    @frustum.on_click
    def _(event: Any) -> None:
        event.client.camera.wxyz = (w, x, y, z)
        event.client.camera.position = pose[:3, 3]
        event.client.camera.fov = frustum.fov

    return frustum
