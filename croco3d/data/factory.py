"""Data sets from plain mappings, as a training configuration holds them.

A mapping names a reader and gives its options; the rest are options of `PairDataset` and `size`,
how often the set is drawn an epoch:

```yaml
data:
  - {reader: nerfstudio, root: captures/kitchen, size: 10000}
  - {reader: co3d, root: /data/co3d, categories: [apple], size: 5000, crop: center}
```

`reader: image_pairs` gives CroCo's pairs of plain images (`ImagePairFolder`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import readers as _readers  # noqa: F401  (registers the built-in readers)
from .augment import Augment
from .dataset import PairDataset
from .draws import DrawDataset, Resolution
from .frames import PairSource
from .image_pairs import ImagePairFolder
from .mixture import Mixture
from .registry import READERS, unknown

Spec = Mapping[str, Any]

_IMAGE_PAIRS = "image_pairs"
_DATASET_OPTIONS = ("crop", "portrait", "min_valid", "max_unreadable")


def make_source(spec: Spec) -> PairSource:
    """Call the reader that `spec["reader"]` names with the other entries.

    Raises:
        ValueError: If there is no such reader or option; the message has near matches.
    """
    options = dict(spec)
    reader = READERS[_reader_name(options)]
    return _call(reader, options, _parameters(reader), f"reader {spec['reader']!r}")


def open_source(spec: Spec) -> PairSource | ImagePairFolder:
    """Open what a mapping of `make_dataset` reads from, without making samples of it."""
    options = {key: value for key, value in spec.items() if key != "size"}
    dataset = _one(options, resolution=224, augment=None, seed=0)
    assert isinstance(dataset, PairDataset | ImagePairFolder)
    return dataset.source if isinstance(dataset, PairDataset) else dataset


def make_dataset(
    specs: Spec | Sequence[Spec],
    resolution: int | Resolution | Sequence[Resolution],
    augment: Augment | Mapping[str, float] | None = None,
    seed: int = 0,
) -> DrawDataset:
    """Build a data set from one mapping, or a mixture from several.

    Args:
        specs: What to read; see the module.
        resolution: One side or `(width, height)`, or several.
        augment: Colour jitter, zoom and mirroring, as an `Augment` or its fields; None for none.
        seed: What, with epoch and index, decides a sample.

    Raises:
        ValueError: If a reader or option is not known; the message has near matches.
    """
    if augment is None or isinstance(augment, Augment):
        change = augment
    else:
        change = _call(Augment, dict(augment), _parameters(Augment), "augmentation")
    if isinstance(specs, Mapping):
        return _one(specs, resolution, change, seed)
    return Mixture([_one(spec, resolution, change, seed) for spec in specs])


def _one(
    spec: Spec,
    resolution: int | Resolution | Sequence[Resolution],
    augment: Augment | None,
    seed: int,
) -> DrawDataset:
    options = dict(spec)
    size = options.pop("size", None)
    common = {"resolution": resolution, "augment": augment, "seed": seed}
    if options.get("reader") == _IMAGE_PAIRS:
        del options["reader"]
        allowed = [name for name in _parameters(ImagePairFolder) if name not in common]
        _refuse_unknown(options, [*allowed, "size"], f"reader {_IMAGE_PAIRS!r}")
        dataset: DrawDataset = ImagePairFolder(**options, **common)
    else:
        reader = READERS[_reader_name(dict(options))]
        allowed = ["reader", "size", *_DATASET_OPTIONS, *_parameters(reader)]
        _refuse_unknown(options, allowed, f"reader {options['reader']!r}")
        chosen = {key: options.pop(key) for key in _DATASET_OPTIONS if key in options}
        dataset = PairDataset(make_source(options), **common, **chosen)
    return dataset if size is None else size @ dataset


def _reader_name(options: dict[str, Any]) -> str:
    if "reader" not in options:
        raise ValueError(f"{options!r} names no reader. Known: {', '.join(READERS)}.")
    return options.pop("reader")


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _refuse_unknown(options: Mapping[str, Any], allowed: Sequence[str], of: str) -> None:
    for name in options:
        if name not in allowed:
            raise ValueError(unknown(f"option of {of}", name, list(allowed)))


def _call(
    function: Callable[..., Any], options: dict[str, Any], allowed: Sequence[str], of: str
) -> Any:
    _refuse_unknown(options, allowed, of)
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise ValueError(f"{of}: {error}.") from error
    return function(**options)
