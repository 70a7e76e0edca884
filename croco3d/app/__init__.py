"""The browser app: photographs in, a scene to look at and download."""

from .models import KeptModel as KeptModel
from .server import launch as launch
from .sessions import Limits as Limits
from .sessions import Sessions as Sessions
