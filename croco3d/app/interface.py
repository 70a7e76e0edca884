"""The app's page. Importing this module needs Gradio; `launch` says so where it is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..hub.known import KNOWN
from ..scene import Scene
from ..scene.loading import DEFAULT_MODEL
from ..scene.preview import preview_picture
from ..scene.summary import equivalent_focal
from .sessions import Sessions

logger = logging.getLogger(__name__)

GRAPHS = {
    "Every pair (few photographs)": "complete",
    "Neighbours in a sequence": "swin-3",
    "Sequence with long jumps": "logwin-3",
    "All with the first": "oneref-0",
    "The most alike": "retrieval-4",
}
_FORMATS = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic"]
_INTRODUCTION = """# croco3d
Add two or more photographs of one scene and get its shape, its colours and the cameras."""
STYLE = "footer {display: none !important} .gradio-container {max-width: 1400px !important}"


def published_models() -> list[tuple[str, str]]:
    """Label and name of the published models that reconstruct scenes, the usual one first."""
    names = [k.name for k in KNOWN if k.model in ("Dust3rForStereo", "Mast3rForStereo")]
    names.sort(key=lambda name: name != DEFAULT_MODEL)
    return [(name.split("/")[-1].replace("_", " "), name) for name in names]


def build_app(sessions: Sessions, models: Sequence[str] | None = None) -> gr.Blocks:
    """Build the page.

    Args:
        sessions: Does the work.
        models: Models to choose from, the first one preset; by default the published ones.

    Returns:
        The page, not started.
    """
    choices = [(name, name) for name in models] if models else published_models()
    # Uploads older than an hour go even where a browser never said goodbye.
    page = gr.Blocks(title="croco3d", analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=400):
                uploads = gr.File(
                    label="Photographs", file_count="multiple", file_types=_FORMATS, height=180
                )
                model = gr.Dropdown(choices, value=choices[0][1], label="Model")
                graph = gr.Dropdown(list(GRAPHS.items()), value="complete", label="Pairs")
                start = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
                summary = gr.Markdown(elem_id="summary")
            with gr.Column(scale=5):
                with gr.Tab("Scene"):
                    viewer = gr.Model3D(
                        label="Scene", height=560, clear_color=(0.09, 0.1, 0.13, 1.0)
                    )
                with gr.Tab("Images, depth and confidence"):
                    preview = gr.Image(
                        label="Maps", show_label=False, interactive=False, buttons=["download"]
                    )
                with gr.Row():
                    confidence = gr.Slider(
                        0, 95, value=20, step=1, label="Leave out least confident, %"
                    )
                    surface = gr.Radio(
                        [("Surface", True), ("Points", False)], value=True, label="Shown as"
                    )
                with gr.Row():
                    buttons = [
                        gr.DownloadButton(f"Download {name}", interactive=False)
                        for name in ("GLB", "PLY", "COLMAP (zip)")
                    ]
        handlers = _Handlers(sessions)
        refresh = [confidence, surface]
        started = start.click(
            handlers.reconstruct, [uploads, model, graph, *refresh],
            [viewer, summary, preview, *buttons], concurrency_limit=1,
        )  # fmt: skip
        started.success(handlers.downloads, [confidence], buttons[1:], show_progress="hidden")
        for event in (confidence.release, surface.change):
            shown = event(handlers.show, refresh, [viewer, *buttons], show_progress="minimal")
            shown.success(handlers.downloads, [confidence], buttons[1:], show_progress="hidden")
        page.unload(handlers.leave)
    return page


class _Handlers:
    """What the page's events do. Every failure becomes one sentence in the page."""

    # Gradio fills parameters annotated as requests itself.

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def reconstruct(
        self, uploads: list[str] | None, model: str, graph: str, least: float, surface: bool,
        request: gr.Request,
    ) -> list[Any]:  # fmt: skip
        """Make a scene of the uploads and show it."""
        key = _visitor(request)
        scene = self._try(lambda: self.sessions.make_scene(key, uploads or [], model, graph))
        picture = self._try(lambda: preview_picture(scene, min_confidence=least))
        viewer, *buttons = self.show(least, surface, request)
        return [viewer, describe(scene), picture, *buttons]

    def show(self, least: float, surface: bool, request: gr.Request) -> list[Any]:
        """Show the scene again; the other downloads follow."""
        key = _visitor(request)
        path = str(self._try(lambda: self.sessions.show(key, least, surface)))
        button = gr.DownloadButton
        # A little nearer than the viewer would go, which frames outliers and cameras too.
        viewer = gr.Model3D(path, camera_position=(None, None, self.sessions.extent(key)))
        return [viewer, button(value=path, interactive=True)] + [button(interactive=False)] * 2

    def downloads(self, least: float, request: gr.Request) -> list[Any]:
        """Offer the scene as PLY and COLMAP project."""
        files = self._try(lambda: self.sessions.downloads(_visitor(request), least))
        return [gr.DownloadButton(value=str(f), interactive=True) for f in files]

    def leave(self, request: gr.Request) -> None:
        """Remove what a visitor leaves behind."""
        self.sessions.close(_visitor(request))

    def _try(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
            logger.info("Told a visitor: %s", error)
            text = " ".join(str(error).split()) or type(error).__name__
            raise gr.Error(text, duration=None, print_exception=False) from error


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def describe(scene: Scene) -> str:
    """The scene in a Markdown table: size and focal of each photograph."""
    unit = "metres" if scene.metric else "an unknown unit"
    rows = [
        f"| {name} | {camera.width} x {camera.height} | {float(camera.intrinsics[0, 0]):.0f} px, "
        f"{equivalent_focal(camera):.0f} mm |"
        for name, camera in zip(scene.names, scene.cameras, strict=True)
    ]
    head = "| Name | Pixels | Focal |\n|---|---|---|"
    title = f"**{len(scene)} photographs**, lengths in {unit}, focals as on 35 mm film"
    if scene.info.get("relative_confidences"):
        title += ". **The model was sure of nothing here; take the scene with caution**"
    return f"{title}\n\n" + "\n".join([head, *rows])
