"""croco3d: 3-D from photographs with cross-view transformers.

The public names are imported on first use, so that `import croco3d` and `croco3d --help` stay
light. transformers' auto classes and `pipeline` know our models all the same: they are registered
when transformers is imported, see `_registration`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._registration import install as _install_registration

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .hub import AutoCroco3D as AutoCroco3D
    from .hub import AutoEncoder as AutoEncoder
    from .modeling.croco import CrocoForPreTraining as CrocoForPreTraining
    from .modeling.dust3r import Dust3rForStereo as Dust3rForStereo
    from .modeling.dust3r import Dust3rImageProcessor as Dust3rImageProcessor
    from .modeling.mast3r import Mast3rForStereo as Mast3rForStereo
    from .scene import Scene as Scene
    from .scene import reconstruct as reconstruct

_HOME = {
    "AutoCroco3D": "hub",
    "AutoEncoder": "hub",
    "CrocoForPreTraining": "modeling.croco",
    "Dust3rForStereo": "modeling.dust3r",
    "Dust3rImageProcessor": "modeling.dust3r",
    "Mast3rForStereo": "modeling.mast3r",
    "Scene": "scene",
    "reconstruct": "scene",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


_install_registration()
