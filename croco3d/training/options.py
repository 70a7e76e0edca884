"""Typed options: dataclasses filled from YAML files and dotted overrides.

Files are read and overrides applied by OmegaConf; the dataclasses say which keys exist and of
which type. Options that come in several kinds (datasets, losses, optimizers) derive from
`Choice`: the key `name` picks the kind, so that nothing is ever evaluated.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from omegaconf import DictConfig, OmegaConf

T = TypeVar("T")


class Choice:
    """Base of options that come in several kinds, told apart by `name`.

    A direct subclass opens a family; its subclasses are the kinds::

        class Shape(Choice): ...

        @dataclass(kw_only=True)
        class Circle(Shape, name="circle"):
            radius: float

    Deriving a new kind makes its name known to the files, from other packages too.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type["Choice"]]]

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        """Open a family, or add a kind to one."""
        super().__init_subclass__()
        if Choice in cls.__bases__:
            cls.kinds = {}
        if name is None:
            return
        if name in cls.kinds:
            raise ValueError(f"{name!r} is already a kind of {cls.__mro__[1].__name__}")
        cls.name = name
        cls.kinds[name] = cls


def load(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply overrides.

    A file may start from another one: `base: other.yaml`, relative to itself, is read first and
    the file's own keys laid over it. Interpolations (`${seed}`) are resolved at the end.

    Args:
        path: the YAML file.
        overrides: `key.sub=value`, values read as YAML, list items by number
            (`data.train.0.root=x`).

    Raises:
        ValueError: an override without `=`, or one that goes through a plain value.
    """
    merged = OmegaConf.create(_read(Path(path), seen=()))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"override {override!r} is not of the form key.sub=value")
        value: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
        try:
            OmegaConf.update(merged, key, value["value"], merge=False, force_add=True)
        except (TypeError, AttributeError, IndexError, KeyError) as error:
            raise ValueError(f"override {override!r} does not fit {path}: {error}") from error
    return typing.cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))


def parse(kind: type[T], raw: Any, where: str = "") -> T:
    """Fill a dataclass from plain values, checking names and types.

    Args:
        kind: the dataclass, or a `Choice` family.
        raw: nested dictionaries and lists, as read from YAML.
        where: the dotted key that `raw` stands under, for messages.

    Raises:
        ValueError: an unknown or missing key (near matches are named), or a value of a wrong type.
    """
    return _convert(kind, raw, where)


def to_plain(options: Any) -> Any:
    """Turn parsed options back into nested dictionaries and lists that `parse` accepts."""
    if dataclasses.is_dataclass(options):
        named = {"name": options.name} if isinstance(options, Choice) else {}
        fields = dataclasses.fields(options)
        return named | {f.name: to_plain(getattr(options, f.name)) for f in fields}
    if isinstance(options, Mapping):
        return {key: to_plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [to_plain(value) for value in options]
    return options


def to_yaml(options: Any) -> str:
    """Write parsed options as YAML that `load` and `parse` read back to equal options."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(options)))


def changes(old: Any, new: Any, where: str = "") -> list[str]:
    """Name the keys whose plain values differ, as `key: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for k in keys for line in changes(old.get(k), new.get(k), _join(where, k))]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ValueError(f"{path} is its own base, through {seen[-1]}")
    if not path.is_file():
        raise ValueError(f"no configuration file at {path}")
    loaded = OmegaConf.load(path)
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{path} must hold keys and values, not a list")
    own = typing.cast(dict[str, Any], OmegaConf.to_container(loaded))
    base = own.pop("base", None)
    if base is None:
        return own
    return _overlay(_read(path.parent / base, (*seen, path.resolve())), own)


def _overlay(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    # Another kind has other keys, so that nothing of the base's kind may show through.
    if "name" in own and own["name"] != base.get("name"):
        return own
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlay(base[key], value) if both else value
    return merged


def _convert(kind: Any, raw: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return raw
    if origin in (types.UnionType, typing.Union):
        return _convert_union(args, raw, where)
    if origin is typing.Literal:
        if raw is False and "no" in args:
            return "no"  # which YAML reads as a truth value
        if raw not in args:
            raise ValueError(f"{where} must be one of {list(args)}, not {raw!r}")
        return raw
    if isinstance(kind, type) and issubclass(kind, Choice):
        return _convert_choice(kind, raw, where)
    if dataclasses.is_dataclass(kind):
        return _convert_fields(kind, raw, where)
    if origin in (list, tuple):
        return _convert_sequence(origin, args, raw, where)
    if origin is dict:
        _expect(isinstance(raw, Mapping), "keys and values", raw, where)
        return {k: _convert(args[1], v, _join(where, k)) for k, v in raw.items()}
    return _convert_scalar(kind, raw, where)


def _convert_union(args: tuple[Any, ...], raw: Any, where: str) -> Any:
    if raw is None and type(None) in args:
        return None
    kinds = [a for a in args if a is not type(None)]
    errors = []
    for kind in kinds:
        try:
            return _convert(kind, raw, where)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; ".join(errors))


def _convert_choice(family: type[Choice], raw: Any, where: str) -> Any:
    if isinstance(raw, str):
        raw = {"name": raw}
    _expect(isinstance(raw, Mapping), "keys and values with a 'name'", raw, where)
    if "name" not in raw:
        raise ValueError(f"{where} needs a 'name': one of {sorted(family.kinds)}")
    name = raw["name"]
    if name not in family.kinds:
        raise ValueError(f"{where}.name: {_unknown(str(name), family.kinds)}")
    return _convert_fields(family.kinds[name], {k: v for k, v in raw.items() if k != "name"}, where)


def _convert_fields(kind: Any, raw: Any, where: str) -> Any:
    raw = {} if raw is None else raw
    _expect(isinstance(raw, Mapping), "keys and values", raw, where)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in raw:
        if key not in fields:
            raise ValueError(f"{_join(where, key)}: {_unknown(str(key), fields)}")
    required = (f for f in fields.values() if _is_required(f))
    missing = [_join(where, f.name) for f in required if f.name not in raw]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    values = {k: _convert(hints[k], v, _join(where, k)) for k, v in raw.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from error


def _convert_sequence(origin: Any, args: tuple[Any, ...], raw: Any, where: str) -> Any:
    _expect(isinstance(raw, list | tuple), "a list", raw, where)
    if origin is list or args[-1] is Ellipsis:
        kinds = [args[0]] * len(raw)
    else:
        _expect(len(raw) == len(args), f"{len(args)} values", raw, where)
        kinds = list(args)
    return origin(
        _convert(k, v, f"{where}.{i}") for i, (k, v) in enumerate(zip(kinds, raw, strict=True))
    )


def _convert_scalar(kind: Any, raw: Any, where: str) -> Any:
    number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if kind is float:
        _expect(number, "a number", raw, where)
        return float(raw)
    if kind is int:
        whole = number and float(raw) == int(raw)
        _expect(whole, "a whole number", raw, where)
        return int(raw)
    _expect(isinstance(raw, kind), f"of type {kind.__name__}", raw, where)
    return raw


def _is_required(field: dataclasses.Field) -> bool:
    absent = dataclasses.MISSING
    return field.default is absent and field.default_factory is absent


def _expect(condition: bool, wanted: str, raw: Any, where: str) -> None:
    if not condition:
        raise ValueError(f"{where} must be {wanted}, not {raw!r}")


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {sorted(known)}"
    return f"unknown name {name!r}; {hint}"


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
