"""`croco3d data`: finding pairs among one's own frames, and checking data sets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import data_render

if TYPE_CHECKING:
    from croco3d.data import ImagePairFolder, PairSource
    from croco3d.data.checking import Report

    _Source = PairSource | ImagePairFolder

_LOOSEST_PAIRING = {
    "nerfstudio": {"max_degrees": 180.0},
    "colmap": {"min_shared": 1e-9, "max_shared": 1.0},
}

_Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="NAME=VALUE", help="Option of the reader; may be repeated."
    ),
]
_Reader = Annotated[
    str | None,
    typer.Option(help="How to read DIR; found from its files if not given."),
]


def pair(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Posed frames with depth, of one scene.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write, .npz or .json; by default pairs.npz in DIR."),
    ] = None,
    reader: _Reader = None,
    option: _Options = None,
    minimum: Annotated[float, typer.Option("--min", help="Least overlap of a pair.")] = 0.2,
    maximum: Annotated[float, typer.Option("--max", help="Most overlap of a pair.")] = 0.8,
    per_frame: Annotated[
        int | None, typer.Option(help="Keep about so many pairs a frame; all by default.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Relative difference of depth that is the same surface.")
    ] = 0.05,
) -> None:
    """Pair the frames of a folder by how much they see of each other.

    Overlap is measured from depth and poses. Give the file that this writes to the reader as its
    option `pairs`.
    """
    from croco3d.data.overlap import find_pairs
    from croco3d.data.pairing import save_pairs

    source = _open(directory, reader, option, max_pairing=True)
    pairs, overlap = find_pairs(source.frames, minimum, maximum, per_frame, tolerance)
    if not len(pairs):
        raise ValueError(
            f"No two of {len(source.frames)} frames overlap by {minimum:g} to {maximum:g}. Check "
            f"the frames with `croco3d data check {directory}`, lower --min, or raise --max "
            "(the two pictures of a narrow stereo camera overlap by more)."
        )
    target = output or directory / "pairs.npz"
    save_pairs(target, [frame.name for frame in source.frames], pairs, overlap)
    typer.echo(
        f"{len(pairs)} pairs of {len(source.frames)} frames, median overlap "
        f"{sorted(overlap)[len(overlap) // 2]:.2f}, written to {target}"
    )


def check(
    spec: Annotated[
        Path,
        typer.Argument(
            metavar="SPEC", help="A folder, or a YAML or JSON file with a reader and its options."
        ),
    ],
    reader: _Reader = None,
    option: _Options = None,
    frames: Annotated[int | None, typer.Option(help="Open only so many frames.")] = None,
    pairs: Annotated[int | None, typer.Option(help="Compare only so many pairs.")] = 200,
    pictures: Annotated[
        Path | None, typer.Option(help="Where to write pictures of pairs, the worst first (PNG).")
    ] = None,
    rows: Annotated[int, typer.Option(help="Pairs in the pictures.")] = 12,
    report: Annotated[
        Path | None, typer.Option(help="Where to write what was found (JSON).")
    ] = None,
) -> None:
    """Open everything that a data set names and report what is wrong.

    Missing and damaged files, poses that are none, suspicious depth, and pairs whose depths
    contradict each other when reprojected. Ends with exit code 1 if something is wrong.
    """
    from croco3d.data import ImagePairFolder, PairSource
    from croco3d.data.checking import check_image_pairs, check_source, worst_first
    from croco3d.data.contact_sheet import save_contact_sheet

    wrong = False
    for number, source in enumerate(_sources(spec, reader, option)):
        if isinstance(source, ImagePairFolder):
            result = check_image_pairs(source, frames)
        else:
            result = check_source(source, frames, pairs)
        wrong = wrong or bool(result.findings)
        _tell(result)
        if report is not None:
            _write_report(_numbered(report, number), result)
        if pictures is not None and result.pairs and isinstance(source, PairSource):
            drawn = worst_first(result.pairs)[:rows]
            target = _numbered(pictures, number)
            save_contact_sheet(target, source, [one.index for one in drawn])
            typer.echo(f"Pictures of {len(drawn)} pairs: {target}")
    if wrong:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add `data` and its commands to the command line."""
    data = typer.Typer(help="Find pairs, check data sets.", no_args_is_help=True)
    data.command("pair")(pair)
    data.command("check")(check)
    data_render.register(data)
    app.add_typer(data, name="data")


def _open(
    directory: Path, reader: str | None, options: list[str] | None, max_pairing: bool = False
) -> "PairSource":
    from croco3d.data import make_source

    spec: dict[str, Any] = {"reader": reader or _guess(directory), "root": directory}
    if max_pairing:
        # Frames are wanted whether or not a quick rule would pair any.
        spec |= _LOOSEST_PAIRING.get(spec["reader"], {})
    spec |= _parse(options)
    return make_source(spec)


def _sources(spec: Path, reader: str | None, options: list[str] | None) -> "list[_Source]":
    """Open a folder, or every data set of a file."""
    if spec.is_dir() or (reader is None and spec.name == "transforms.json"):
        return [_open(spec, reader, options)]
    import yaml

    from croco3d.data.factory import open_source

    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    if isinstance(content, dict) and "data" in content:
        content = content["data"]
    if isinstance(content, dict) and "train" in content:
        content = [*content["train"], *content.get("validation", [])]
    entries = [content] if isinstance(content, dict) else content
    return [open_source({**entry, **_parse(options)}) for entry in entries]


def _guess(directory: Path) -> str:
    if (directory / "transforms.json").is_file() or directory.name.endswith(".json"):
        return "nerfstudio"
    if any(directory.glob("**/images.bin")) or any(directory.glob("**/images.txt")):
        return "colmap"
    from croco3d.data import READERS

    raise ValueError(
        f"{directory} holds neither transforms.json nor a COLMAP model; name its layout with "
        f"--reader: {', '.join(READERS)}."
    )


def _parse(options: list[str] | None) -> dict[str, Any]:
    import yaml

    parsed = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not equals:
            raise typer.BadParameter(f"--option {option!r} must be NAME=VALUE.")
        parsed[name] = yaml.safe_load(value)
    return parsed


def _numbered(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_stem(f"{path.stem}_{number + 1}")


def _tell(report: "Report") -> None:
    """Say what was found, the same kind of problem at most ten times."""
    typer.echo(
        f"{report.name}: {report.frames} of {report.total_frames} frames opened, "
        f"{len(report.pairs)} of {report.total_pairs} pairs compared, "
        f"{len(report.findings)} problems"
    )
    told: dict[str, int] = {}
    for finding in report.findings:
        told[finding.problem] = told.get(finding.problem, 0) + 1
        if told[finding.problem] <= 10:
            typer.echo(f"  {finding.problem}: {finding.where}: {finding.message}")
    for problem, count in told.items():
        if count > 10:
            typer.echo(f"  {problem}: {count - 10} more")
    good = sorted(one.overlap for one in report.pairs)
    if good:
        typer.echo(f"  overlap of pairs: median {good[len(good) // 2]:.2f}, least {good[0]:.2f}")


def _write_report(path: Path, report: "Report") -> None:
    from croco3d.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
