"""Global alignment: pairs of pointmaps to one scene."""

from .align import align as align
from .request import check_request as check_request
from .simulate import Errors as Errors
from .simulate import PoseErrors as PoseErrors
from .simulate import SimulatedRoom as SimulatedRoom
from .simulate import pose_errors as pose_errors
from .simulate import simulate_room as simulate_room
