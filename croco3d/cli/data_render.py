"""`croco3d data render`."""

import re
from pathlib import Path
from typing import Annotated

import typer


def render(
    out: Annotated[Path, typer.Option(help="Folder for the rooms; run again to continue.")],
    rooms: Annotated[int, typer.Option(min=1, help="How many rooms.")] = 100,
    views: Annotated[int, typer.Option(min=1, help="Views of each room.")] = 24,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the views.")] = "128x96",
    split: Annotated[
        str, typer.Option(help="train, val or test; they share no furniture and no room.")
    ] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Of the first room.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; 0.6 GB each.")] = 1,
    source: Annotated[
        str, typer.Option(help="furniture, shapes (no download), or auto: what is there.")
    ] = "auto",
    cluster: Annotated[
        int, typer.Option(min=1, help="Views that look at one spot, from near to far.")
    ] = 6,
    fov: Annotated[str, typer.Option(help="Range of the field of view, degrees.")] = "45-90",
) -> None:
    """Render furnished rooms with exact depth and poses, for training and tests.

    The furniture is that of Debian's package sweethome3d-furniture (CC0 and CC-BY); its authors
    are listed in attributions.csv beside the rooms. Read them with the reader `rooms`.
    """
    from croco3d.data.synthetic import CameraSettings, RoomSettings, generate_rooms

    width, height = _two_numbers(size, "x", "--size", "128x96")
    low, high = _two_numbers(fov, "-", "--fov", "45-90")
    cameras = CameraSettings(views=views, cluster=cluster, fov=(low, high))
    settings = RoomSettings(
        split=split,  # pyright: ignore[reportArgumentType]
        size=(round(width), round(height)),
        source=source,  # pyright: ignore[reportArgumentType]
        cameras=cameras,
    )
    paths = generate_rooms(out, rooms, settings, seed, workers)
    typer.echo(f"{len(paths)} rooms of {views} views in {out}")


def register(app: typer.Typer) -> None:
    """Add `render` to the commands of `croco3d data`."""
    app.command()(render)


def _two_numbers(text: str, separator: str, option: str, example: str) -> tuple[float, float]:
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(number + re.escape(separator) + number, text.strip())
    if match is None:
        raise typer.BadParameter(f"{option} must look like {example}, got {text!r}.")
    return float(match[1]), float(match[2])
