"""`croco3d demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the scenes and pictures.")
    ] = Path("croco3d-demo"),
) -> None:
    """Reconstruct a bundled rendered room from two and from four views."""
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; name a folder.")
    from ..demo import demo_errors, demo_views
    from ..hub import AutoCroco3D
    from ..scene import reconstruct
    from .reconstruct import report, write_outputs

    model = AutoCroco3D.from_pretrained("croco3d-rooms")
    for count in (2, 4):
        scene = reconstruct(demo_views(count), model=model)
        errors = demo_errors(scene)
        name = output / f"room_{count}_views"
        write_outputs(scene, name.with_suffix(".glb"), name.with_suffix(".png"), {})
        report(scene, as_json=False)
        places = "" if errors.position is None else f", places within {errors.position:.0%}"
        typer.echo(
            f"{count} views: pointmap error {errors.pointmaps:.3f} (mean pointmap: "
            f"{errors.baseline:.3f}), camera rotations within {errors.rotation:.1f} degrees of the "
            f"truth{places}."
        )


def register(app: typer.Typer) -> None:
    """Add `demo` to the command line."""
    app.command("demo")(demo)
