"""`croco3d convert`."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        str, typer.Argument(help="A .pth file, a folder, or a repository on the Hub.")
    ],
    target: Annotated[Path, typer.Argument(help="Where to write.")],
    layout: Annotated[
        str,
        typer.Option(
            "--to",
            help="'croco3d' (our folder) or 'original' (a folder as on the Hub, or a .pth file).",
        ),
    ] = "croco3d",
) -> None:
    """Rewrite a checkpoint in our layout, or in the original one for other tools."""
    from croco3d.hub.convert import convert as run

    typer.echo(f"Wrote {run(source, target, layout)}.", err=True)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(convert)
