"""`croco3d app`."""

from __future__ import annotations

from typing import Annotated

import typer


def app(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model to offer; repeat for several."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    max_photographs: Annotated[int, typer.Option(min=2, help="Most photographs a scene.")] = 40,
    max_file_mb: Annotated[int, typer.Option(min=1, help="Largest photograph in MB.")] = 40,
) -> None:
    """Serve a page that makes scenes of uploaded photographs."""
    from ..app import KeptModel, Limits, launch

    launch(
        KeptModel(device=device, dtype=dtype),
        models=model,
        limits=Limits(photographs=max_photographs, file_megabytes=max_file_mb),
        host=host,
        port=port,
    )


def register(program: typer.Typer) -> None:
    """Add `app` to the command line."""
    program.command("app")(app)
