"""Rendering rooms off screen with moderngl on EGL: linear colour and exact z-depth."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from . import shaders
from .catalogue import Catalogue
from .mesh import Mesh
from .scene import Room

NEAR, FAR = 0.02, 30.0
LAMP_MAP, SUN_MAP = 512, 1024
_TABLE_WIDTH = 2 * 32
_MAX_OBJECTS = 256
_HELP = (
    "Rooms are rendered with moderngl on EGL, which is not available here ({reason}). Install "
    "`pip install croco3d[synthetic]` and, on Debian or Ubuntu, `apt-get install libegl1 libgl1 "
    "libgl1-mesa-dri`; no display or GPU is needed."
)


class RendererUnavailableError(RuntimeError):
    """No off-screen OpenGL context can be made here; the message says what to install."""


@dataclass
class Frame:
    """One rendered view.

    Attributes:
        radiance: linear RGB averaged over each pixel, `(H, W, 3)` float32.
        depth: z-depth at the pixel centres in metres, `(H, W)` float32, 0 where there is nothing.
    """

    radiance: np.ndarray
    depth: np.ndarray


@dataclass
class _Drawable:
    vertex_array: Any
    shadow_array: Any
    row: int
    model: bytes
    center: np.ndarray
    radius: float


def create_context() -> Any:
    """Make an off-screen OpenGL context.

    Raises:
        RendererUnavailableError: Where moderngl, EGL or a driver is missing.
    """
    try:
        import moderngl
    except ImportError as error:
        raise RendererUnavailableError(_HELP.format(reason="moderngl is not installed")) from error
    # Triton crashes the process when it is loaded after Mesa, whose LLVM then serves its symbols.
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
    options: dict[str, Any] = {"standalone": True, "backend": "egl", "require": 330}
    try:
        return moderngl.create_context(**options)
    except Exception as error:  # moderngl and glcontext raise bare Exceptions
        raise RendererUnavailableError(_HELP.format(reason=error)) from error


class RoomRenderer:
    """Draws rooms made from one catalogue.

    Args:
        catalogue: whose pieces and textures are uploaded.
        size: width and height of the views in pixels.
        supersample: 2 shades a grid of half the pixels' spacing, whose odd samples are the pixel
            centres, and averages the colours of 3 x 3 (weights 1 2 1) around each; 1 shades the
            centres alone. The depth is that of the centre in either case.

    Raises:
        RendererUnavailableError: Where no context can be made.
        ValueError: If `supersample` is not 1 or 2, or `size` not positive.
    """

    def __init__(
        self, catalogue: Catalogue, size: tuple[int, int] = (128, 96), supersample: int = 2
    ) -> None:
        if supersample not in (1, 2):
            raise ValueError(f"supersample must be 1 or 2, got {supersample}.")
        if min(size) < 1:
            raise ValueError(f"size must be (width, height) in pixels, got {size}.")
        self.catalogue = catalogue
        self.size = size
        self.supersample = supersample
        self._samples = size if supersample == 1 else (2 * size[0] + 1, 2 * size[1] + 1)
        self.context = create_context()
        self._program = self.context.program(shaders.VERTEX, shaders.FRAGMENT)
        self._shadow = self.context.program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        self._meshes: dict[int, tuple[Any, Any]] = {}
        self._drawables: list[_Drawable] = []
        self._make_targets()
        self._upload_textures()

    def close(self) -> None:
        """Free the context and everything in it."""
        self.context.release()

    def _make_targets(self) -> None:
        context = self.context
        self._color = context.texture(self._samples, 4, dtype="f4")
        depth = context.depth_renderbuffer(self._samples)
        self._target = context.framebuffer([self._color], depth)
        self._table = context.texture((_TABLE_WIDTH, _MAX_OBJECTS), 4, dtype="f4")
        self._table.filter = (context.NEAREST, context.NEAREST)
        self._shadow_maps = []
        for side in (LAMP_MAP, SUN_MAP):
            texture = context.depth_texture((side, side))
            texture.compare_func = ""
            texture.filter = (context.NEAREST, context.NEAREST)
            self._shadow_maps.append((texture, context.framebuffer(depth_attachment=texture)))

    def _upload_textures(self) -> None:
        layers = self.catalogue.textures
        count, height, width, _ = layers.shape
        self._textures = self.context.texture_array((width, height, count), 4, layers.tobytes())
        self._textures.build_mipmaps()
        self._textures.filter = (self.context.LINEAR_MIPMAP_LINEAR, self.context.LINEAR)
        for program in (self._program, self._shadow):
            program["textures"].value = 0
            program["table"].value = 1
        self._program["lamp_map"].value = 2
        self._program["sun_map"].value = 3

    def load(self, room: Room) -> None:
        """Make `room` the one that `render` draws, and render its shadow maps."""
        with self.context:
            self._load(room)

    def _load(self, room: Room) -> None:
        table = np.zeros((_MAX_OBJECTS, _TABLE_WIDTH, 4), np.float32)
        for drawable in self._drawables[:1]:
            drawable.vertex_array.release()
            drawable.shadow_array.release()
        structure = self._upload(room.structure)
        half = room.size / 2
        middle = np.array([0, 0, half[2]])
        self._drawables = [
            _Drawable(*structure, 0, _bytes(np.eye(4)), middle, float(np.linalg.norm(half)))
        ]
        _fill_row(table[0], room.structure_materials)
        for row, placed in enumerate(room.placed[: _MAX_OBJECTS - 1], start=1):
            mesh = self.catalogue.pieces[placed.piece].mesh
            if placed.piece not in self._meshes:
                self._meshes[placed.piece] = self._upload(mesh)
            _fill_row(table[row], placed.materials)
            matrix = placed.matrix
            radius = float(np.linalg.norm(mesh.size)) / 2 * placed.scale
            center = mesh.bounds.mean(axis=0)
            world = matrix[:3, :3] @ center + placed.position
            arrays = self._meshes[placed.piece]
            self._drawables.append(_Drawable(*arrays, row, _bytes(matrix), world, radius))
        self._table.write(table.tobytes())
        self._set_light(room)

    def _upload(self, mesh: Mesh) -> tuple[Any, Any]:
        parts = [mesh.positions, mesh.normals, mesh.uvs, mesh.material_ids[:, None]]
        vertices = np.concatenate(parts, axis=1).astype(np.float32)
        buffer = self.context.buffer(vertices.tobytes())
        indices = self.context.buffer(mesh.triangles.astype(np.uint32).tobytes())
        full = [(buffer, "3f 3f 2f 1f", "in_position", "in_normal", "in_uv", "in_material")]
        bare = [(buffer, "3f 3x4 2f 1f", "in_position", "in_uv", "in_material")]
        return (
            self.context.vertex_array(self._program, full, indices),
            self.context.vertex_array(self._shadow, bare, indices),
        )

    def _set_light(self, room: Room) -> None:
        positions, colors = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
        for i, light in enumerate(room.lights[:4]):
            positions[i], colors[i] = light.position, light.color
        program = self._program
        program["light_position"].write(positions.tobytes())
        program["light_color"].write(colors.tobytes())
        program["light_count"].value = min(len(room.lights), 4)
        program["ambient"].write(room.ambient.astype(np.float32).tobytes())
        program["room"].value = tuple(room.size)
        lamp = _lamp_matrix(room.lights[0].position)
        self._draw_shadow(0, lamp, "lamp_clip")
        sun = room.sun
        program["sun_color"].value = tuple(sun.color) if sun else (0.0, 0.0, 0.0)
        if sun is not None:
            program["sun_direction"].value = tuple(sun.direction)
            program["window_corner"].value = tuple(sun.corner)
            program["window_across"].value = tuple(sun.across)
            program["window_up"].value = tuple(sun.up)
            self._draw_shadow(1, _sun_matrix(sun.direction, room.size), "sun_clip")

    def _draw_shadow(self, index: int, matrix: np.ndarray, uniform: str) -> None:
        columns = _bytes(matrix)
        self._program[uniform].write(columns)
        self._shadow["clip_from_world"].write(columns)
        target = self._shadow_maps[index][1]
        target.use()
        target.clear(depth=1.0)
        self._bind()
        # The shell would shut out the sun, and nothing behind it can be shadowed.
        for drawable in self._drawables[1:]:
            self._shadow["object"].value = drawable.row
            self._shadow["model"].write(drawable.model)
            drawable.shadow_array.render()

    def _bind(self) -> None:
        self.context.enable_only(self.context.DEPTH_TEST)
        self._textures.use(0)
        self._table.use(1)

    def render(self, intrinsics: np.ndarray, cam2world: np.ndarray) -> Frame:
        """Draw the loaded room from one camera.

        Args:
            intrinsics: `(3, 3)` in pixels, integer coordinates are pixel centres.
            cam2world: `(4, 4)`, OpenCV axes.

        Returns:
            Linear colour and z-depth.
        """
        world2cam = np.linalg.inv(cam2world)
        sampled = np.array(intrinsics, dtype=np.float64)
        if self.supersample == 2:
            sampled[:2] *= 2
            sampled[:2, 2] += 1
        clip = _projection(sampled, self._samples) @ world2cam
        # The context is made the current one, as another renderer may have been used since.
        with self.context:
            return self._draw(clip, world2cam[2], cam2world[:3, 3])

    def _draw(self, clip: np.ndarray, depth_row: np.ndarray, eye: np.ndarray) -> Frame:
        self._program["clip_from_world"].write(_bytes(clip))
        self._program["depth_from_world"].value = tuple(depth_row)
        self._program["eye"].value = tuple(eye)
        self._target.use()
        self._target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self._bind()
        self._shadow_maps[0][0].use(2)
        self._shadow_maps[1][0].use(3)
        for drawable in self._visible(clip):
            self._program["object"].value = drawable.row
            self._program["model"].write(drawable.model)
            drawable.vertex_array.render()
        return self._read()

    def _visible(self, clip: np.ndarray) -> list[_Drawable]:
        """Objects whose bounding sphere reaches into the view, near ones first, the shell last.

        What is hidden is then refused by the depth test before it is shaded.
        """
        planes = np.stack([clip[3] + s * clip[k] for k in range(2) for s in (-1, 1)] + [clip[3]])
        planes = planes / np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
        centers = np.stack([d.center for d in self._drawables])
        radii = np.array([d.radius for d in self._drawables])
        inside = (centers @ planes[:, :3].T + planes[:, 3] > -radii[:, None]).all(axis=1)
        nearest = centers @ clip[3, :3] - radii
        nearest[0] = np.inf
        return [self._drawables[i] for i in np.argsort(nearest) if inside[i]]

    def _read(self) -> Frame:
        w, h = self._samples
        raw = np.frombuffer(self._color.read(), np.float32).reshape(h, w, 4)
        if self.supersample == 2:
            centers = raw[1::2, 1::2, 3].copy()
            tent = np.array([0.25, 0.5, 0.25], np.float32)
            smooth = cv2.sepFilter2D(raw, -1, tent, tent)[1::2, 1::2]
            return Frame(np.ascontiguousarray(smooth[..., :3]), centers)
        return Frame(raw[..., :3].copy(), raw[..., 3].copy())


def _fill_row(row: np.ndarray, materials: np.ndarray) -> None:
    row[: 2 * len(materials)] = materials.reshape(-1, 4)


def _bytes(matrix: np.ndarray) -> bytes:
    """A matrix column by column in single precision, as GLSL reads it."""
    return np.ascontiguousarray(matrix.T, dtype=np.float32).tobytes()


def _projection(intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Camera frame to clip space; image row 0 becomes the framebuffer's row 0."""
    w, h = size
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * intrinsics[0, 0] / w, (2 * intrinsics[0, 2] + 1) / w - 1
    matrix[1, 1], matrix[1, 2] = 2 * intrinsics[1, 1] / h, (2 * intrinsics[1, 2] + 1) / h - 1
    matrix[2, 2], matrix[2, 3] = (FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
    matrix[3, 2] = 1.0
    return matrix


def _lamp_matrix(position: np.ndarray) -> np.ndarray:
    """World to clip space of a lamp that looks down with a view of 150 degrees."""
    axes = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = axes, -axes @ position
    f = 1 / np.tan(np.radians(75))
    near, far = 0.05, 12.0
    projection = np.diag([f, f, (far + near) / (far - near), 0.0])
    projection[2, 3], projection[3, 2] = -2 * far * near / (far - near), 1.0
    return projection @ view


def _sun_matrix(direction: np.ndarray, size: np.ndarray) -> np.ndarray:
    """World to clip space of parallel light that covers the room."""
    side = np.cross(direction, [0, 0, 1.0])
    side = side / np.linalg.norm(side)
    axes = np.stack([side, np.cross(direction, side), direction])
    reach = float(np.linalg.norm(size)) / 2
    view = np.eye(4)
    view[:3, :3] = axes / reach
    view[:3, 3] = -axes @ np.array([0, 0, size[2] / 2]) / reach
    return view
