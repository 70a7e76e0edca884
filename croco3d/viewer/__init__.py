"""Looking at scenes: a viewer in the browser (viser), and recordings for Rerun."""

from .browser import ViewerHandles as ViewerHandles
from .browser import fill_viewer as fill_viewer
from .browser import view_scene as view_scene
from .rerun_export import write_rerun as write_rerun
