"""`croco3d view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    scene: Annotated[Path, typer.Argument(help="A scene saved as .npz.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    rerun: Annotated[
        Path | None, typer.Option(help="Write a Rerun recording (.rrd) instead of serving.")
    ] = None,
) -> None:
    """Look at a scene in the browser."""
    from ..scene import Scene

    loaded = Scene.load(scene)
    if rerun is not None:
        loaded.save_rerun(rerun)
        typer.echo(f"Wrote {rerun}", err=True)
        return
    from ..viewer import view_scene

    view_scene(loaded, host=host, port=port)


def register(app: typer.Typer) -> None:
    """Add `view` to the command line."""
    app.command("view")(view)
