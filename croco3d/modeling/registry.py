"""Names for components, so that a config can say which encoder, decoder or head it wants.

```python
@HEADS.register("foo")
class FooHead(Head):
    config_class = FooHeadConfig
```

Registering also makes the component loadable by itself through transformers' auto classes. Other
packages join by an entry point in the group `croco3d.components` that names a module to import.
"""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

ModelT = TypeVar("ModelT", bound=PreTrainedModel)

ENTRY_POINT_GROUP = "croco3d.components"


class Registry(Generic[ModelT]):
    """A table from a short name to a (config class, component class).

    Args:
        kind: what the entries are, for messages ("encoder", "decoder", "head").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[type[PreTrainedConfig], type[ModelT]]] = {}

    def register(self, name: str) -> Callable[[type[ModelT]], type[ModelT]]:
        """Returns a class decorator that enters a component under `name`.

        Raises:
            ValueError: if the name is taken.
        """

        def enter(model_class: type[ModelT]) -> type[ModelT]:
            if name in self._entries:
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by "
                    f"{self._entries[name][1].__qualname__}; choose another name."
                )
            config_class = model_class.config_class
            assert config_class is not None, f"{model_class.__qualname__} has no config_class"
            AutoConfig.register(config_class.model_type, config_class)
            AutoModel.register(config_class, model_class)
            self._entries[name] = (config_class, model_class)
            return model_class

        return enter

    def config_class(self, name: str) -> type[PreTrainedConfig]:
        """Returns the config class registered under `name`."""
        return self._lookup(name)[0]

    def model_class(self, name: str) -> type[ModelT]:
        """Returns the component class registered under `name`."""
        return self._lookup(name)[1]

    def build(self, config: Any, **facts: object) -> ModelT:
        """Builds the component that belongs to a config.

        Args:
            config: an instance of a registered config class.
            **facts: what the component has to know of its neighbours.

        Raises:
            ValueError: if no component is registered for this kind of config.
        """
        _load_entry_points()
        for config_class, model_class in self._entries.values():
            if type(config) is config_class:
                return model_class(config, **facts)
        raise ValueError(
            f"{type(config).__name__} belongs to no registered {self.kind}; "
            f"registered: {', '.join(self) or 'none'}."
        )

    def name_of(self, config: Any) -> str:
        """Returns the name under which a config's class is registered."""
        for name, (config_class, _) in self._entries.items():
            if type(config) is config_class:
                return name
        raise ValueError(f"{type(config).__name__} belongs to no registered {self.kind}.")

    def __iter__(self) -> Iterator[str]:
        _load_entry_points()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        _load_entry_points()
        return name in self._entries

    def _lookup(self, name: str) -> tuple[type[PreTrainedConfig], type[ModelT]]:
        if name not in self:
            near = get_close_matches(name, self._entries, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"Unknown {self.kind} {name!r}.{hint} Registered: {', '.join(self)}.")
        return self._entries[name]


@cache
def _load_entry_points() -> None:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        entry_point.load()


ENCODERS: Registry[PreTrainedModel] = Registry("encoder")
DECODERS: Registry[PreTrainedModel] = Registry("decoder")
HEADS: Registry[PreTrainedModel] = Registry("head")
