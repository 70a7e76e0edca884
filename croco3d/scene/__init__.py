"""Images to pairs to predictions to alignment to a scene, and its exports."""

from .scene import Camera as Camera
from .scene import Scene as Scene
