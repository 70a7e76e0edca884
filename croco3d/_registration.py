"""Makes transformers' auto classes know our models after a bare `import croco3d`.

Importing our models takes torch, transformers and timm, which is seconds. So nothing is imported
here: an import hook waits until transformers' auto modules are imported by somebody, and then
imports the modules of ours that register themselves there.

Registration must not run while a module of transformers (or of ours) is half imported, since it
imports from both. The hook therefore counts how deep imports of the two packages are nested and
acts when the outermost one is done.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# What is imported by others, and what then registers us with it.
REGISTER_AFTER = {
    "transformers.models.auto.configuration_auto": "croco3d.hub.auto",
    "transformers.models.auto.image_processing_auto": "croco3d.hub.processors",
    "transformers.pipelines": "croco3d.hub.pipeline",
}
_PACKAGES = ("transformers.", "croco3d.")


class _Registrar(MetaPathFinder):
    """Finds modules as Python does, and registers us when an outermost import is done."""

    def __init__(self) -> None:
        self.pending = dict(REGISTER_AFTER)
        self._nested = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the usual spec, its loader's execution counted; `None` for other packages."""
        if not self.pending or not fullname.startswith(_PACKAGES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = spec.loader
            # The loader stays what it is, so that sources and resources are found as ever.
            loader.exec_module = self._counted(loader.exec_module)
        return spec

    def _counted(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            depth = getattr(self._nested, "depth", 0)
            self._nested.depth = depth + 1
            try:
                execute(module)
                if depth == 0:
                    self.register()
            finally:
                self._nested.depth = depth

        return exec_module

    def register(self) -> None:
        """Registers us with every module of transformers that has been imported by now."""
        while ready := [name for name in self.pending if name in sys.modules]:
            # What is imported here may itself end an outermost import, and come back here.
            for module in [self.pending.pop(name) for name in ready]:
                import_module(module)


def install() -> None:
    """Registers us at once where transformers is already imported, otherwise when it is."""
    registrar = _Registrar()
    sys.meta_path.insert(0, registrar)
    registrar.register()
