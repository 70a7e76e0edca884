"""`croco3d evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

DTYPES = ("float32", "bfloat16", "float16")


_Model = Annotated[
    str,
    typer.Argument(help="Repository, folder, .pth file or bundled model; 'none' for none."),
]
_Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder, or a YAML or JSON file with readers and their options; of a training "
        "configuration, its validation data.",
    ),
]
_Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Of the reader; may be repeated."),
]
_Baselines = Annotated[
    list[str] | None,
    typer.Option(help="Only these, may be repeated; 'none' for none. All by default."),
]


def evaluate(
    model: _Model,
    data: _Data,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.json, report.md and pictures."),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="How to read a folder; nerfstudio if it has transforms.json.")
    ] = None,
    option: _Options = None,
    resolution: Annotated[
        str, typer.Option(help="Pixels that the network sees: a side, or WIDTHxHEIGHT.")
    ] = "224",
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many pairs, spread evenly; all by default.")
    ] = None,
    baseline: _Baselines = None,
    pictures: Annotated[int, typer.Option(min=0, help="Best and worst pairs to draw.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    known_intrinsics: Annotated[
        bool,
        typer.Option(
            "--known-intrinsics",
            help="Measure the model also as one that is told the true focals, as SIFT is.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Measure a model and what it must beat on pairs with known geometry."""
    if dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype {dtype!r} must be one of {', '.join(DTYPES)}.")
    size = _resolution(resolution)
    specs = read_specs(data, reader, option or [])

    import torch

    from ..data import make_dataset
    from ..evaluation import BASELINES
    from ..evaluation import evaluate as run

    chosen = tuple(BASELINES) if baseline is None else tuple(b for b in baseline if b != "none")
    dataset: Any = make_dataset(specs, size)
    loaded = None if model == "none" else _load(model, device)
    report = run(
        loaded,
        dataset,
        baselines=chosen,
        limit=limit,
        output=output,
        pictures=pictures,
        name=_title(model),
        dtype=None if dtype == "float32" else getattr(torch, dtype),
        known_intrinsics=known_intrinsics,
    )
    typer.echo(json.dumps(report.summary) if as_json else report.markdown(), nl=as_json)
    if output is not None:
        typer.echo(f"Wrote {output}", err=True)


def read_specs(path: Path, reader: str | None, options: Sequence[str]) -> list[dict[str, Any]]:
    """What `make_dataset` takes, from a folder or a file.

    Args:
        path: a folder, or a YAML or JSON file that holds one mapping with a `reader`, a list of
            them, or a training configuration with `data.validation`.
        reader: of a folder.
        options: `NAME=VALUE`, added to every mapping.

    Raises:
        ValueError: the file holds something else, or the reader of a folder is not known.
    """
    import yaml

    extra = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise typer.BadParameter(f"--option {option!r} must be NAME=VALUE.")
        extra[name] = yaml.safe_load(value)
    if path.is_dir():
        if reader is None and not (path / "transforms.json").is_file():
            raise ValueError(f"{path} has no transforms.json; name its layout with --reader.")
        return [{"reader": reader or "nerfstudio", "root": str(path), **extra}]
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and "data" in content:
        content = content["data"]
    if isinstance(content, dict) and "validation" in content:
        content = content["validation"]
    entries = content if isinstance(content, list) else [content]
    if not entries or not all(isinstance(entry, dict) and "reader" in entry for entry in entries):
        raise ValueError(
            f"{path} must hold a mapping with a reader, a list of such, or a training "
            "configuration with data.validation."
        )
    return [entry | extra for entry in entries]


def _title(model: str) -> str:
    """What the tables call a model: with its run where the folder is only `best` or `last`."""
    path = Path(model)
    run = path.parent.name
    return f"{run}/{path.name}" if run and path.name in ("best", "last") else path.name


def _resolution(text: str) -> int | tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise typer.BadParameter(f"--resolution {text!r} must be a side or WIDTHxHEIGHT.")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _load(source: str, device: str | None) -> Any:
    import torch

    from ..hub import AutoCroco3D
    from ..modeling.stereo import StereoModel

    model = AutoCroco3D.from_pretrained(source)
    if not isinstance(model, StereoModel):
        raise ValueError(f"{source!r} holds a {type(model).__name__}, which predicts no geometry.")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(chosen).eval()  # pyright: ignore[reportArgumentType]


def register(app: typer.Typer) -> None:
    """Add `evaluate` to the command line."""
    app.command("evaluate")(evaluate)
