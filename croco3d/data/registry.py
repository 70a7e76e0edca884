"""The names that configurations call readers by."""

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .frames import Reader

_GROUP = "croco3d.readers"
_R = TypeVar("_R", bound=Reader)


class ReaderRegistry:
    """Readers by name, the built-in ones and those of other packages.

    Another package joins by an entry point of the group `croco3d.readers` that names its reader
    function; it is loaded when it is asked for.
    """

    def __init__(self) -> None:
        self._readers: dict[str, Reader] = {}

    def register(self, name: str) -> Callable[[_R], _R]:
        """Decorate a reader function with the name that configurations use."""

        def keep(reader: _R) -> _R:
            if name in self._readers:
                raise ValueError(f"A reader named {name!r} is registered already.")
            self._readers[name] = reader
            return reader

        return keep

    def __getitem__(self, name: str) -> Reader:
        if name in self._readers:
            return self._readers[name]
        for entry in entry_points(group=_GROUP, name=name):
            return entry.load()
        raise ValueError(unknown("reader", name, list(self)))

    def __iter__(self) -> Iterator[str]:
        outside = (entry.name for entry in entry_points(group=_GROUP))
        return iter(sorted({*self._readers, *outside}))

    def __contains__(self, name: str) -> bool:
        return name in list(self)


READERS = ReaderRegistry()


def unknown(what: str, name: Any, choices: list[str]) -> str:
    """Say that a name is not known, with the nearest that are."""
    near = difflib.get_close_matches(str(name), choices, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"Unknown {what} {name!r}.{hint} Known: {', '.join(sorted(choices))}."
