"""Readers of published data sets and of one's own captures, each in its raw layout."""

from ..synthetic import room_test_set as room_test_set
from ..synthetic import rooms as rooms
from .arkitscenes import arkitscenes as arkitscenes
from .blendedmvs import blendedmvs as blendedmvs
from .co3d import co3d as co3d
from .colmap import colmap as colmap
from .habitat import habitat as habitat
from .megadepth import megadepth as megadepth
from .nerfstudio import nerfstudio as nerfstudio
from .scannetpp import scannetpp as scannetpp
from .staticthings3d import staticthings3d as staticthings3d
from .waymo import waymo as waymo
from .wildrgbd import wildrgbd as wildrgbd
