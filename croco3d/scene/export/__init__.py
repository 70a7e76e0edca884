"""Scenes as files that other tools read. Each writer states its conventions."""

from .colmap import write_colmap as write_colmap
from .gaussians import write_gaussians as write_gaussians
from .glb import write_glb as write_glb
from .nerfstudio import write_nerfstudio as write_nerfstudio
from .npz import read_npz as read_npz
from .npz import write_npz as write_npz
from .ply import write_ply as write_ply
from .tum import write_tum as write_tum
