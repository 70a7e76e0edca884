"""The procedural generator: furnished rooms with exact depth and poses, pairs by overlap."""

from .attributions import attribution_rows as attribution_rows
from .attributions import read_attributions as read_attributions
from .attributions import shipped_attributions as shipped_attributions
from .cameras import CameraSettings as CameraSettings
from .cameras import PairTable as PairTable
from .catalogue import Catalogue as Catalogue
from .catalogue import load_catalogue as load_catalogue
from .demo_room import write_demo_room as write_demo_room
from .effects import PhotoSettings as PhotoSettings
from .furniture import Attribution as Attribution
from .generate import RoomSettings as RoomSettings
from .generate import generate_rooms as generate_rooms
from .generate import make_renderer as make_renderer
from .generate import render_room as render_room
from .layout import sample_room as sample_room
from .reader import rooms as rooms
from .renderer import RendererUnavailableError as RendererUnavailableError
from .renderer import RoomRenderer as RoomRenderer
from .shards import RoomShard as RoomShard
from .shards import read_shard as read_shard
from .shards import write_shard as write_shard
from .testsets import room_test_set as room_test_set
from .testsets import test_set as test_set
