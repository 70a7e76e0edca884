"""`croco3d demo`."""

from pathlib import Path
from typing import Annotated

import typer

UNTRAINED = (
    "UNTRAINED MODEL: no trained weights are bundled with this version, so the demonstration runs "
    "a small freshly initialised network. Its output shows that everything runs; its shape means "
    "nothing."
)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the scenes and pictures.")
    ] = Path("croco3d-demo"),
) -> None:
    """Reconstruct a bundled rendered room from two and from four views."""
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; name a folder.")
    from ..demo import demo_errors, demo_model, demo_views
    from ..scene import reconstruct
    from .reconstruct import report, write_outputs

    model, trained = demo_model()
    if not trained:
        typer.echo(UNTRAINED, err=True)
    # Untrained predictions of more pairs have nothing in common that could be aligned.
    for count in (2, 4) if trained else (2,):
        scene = reconstruct(demo_views(count), model=model)
        errors = demo_errors(scene)
        name = output / f"room_{count}_views"
        write_outputs(scene, name.with_suffix(".glb"), name.with_suffix(".png"), {})
        report(scene, as_json=False)
        against = "" if errors.baseline is None else f" (mean pointmap: {errors.baseline:.3f})"
        typer.echo(
            f"{count} views: pointmap error {errors.pointmaps:.3f}{against}, camera rotations "
            f"within {errors.rotation:.1f} degrees of the truth"
            f"{'' if trained else '; UNTRAINED model'}."
        )


def register(app: typer.Typer) -> None:
    """Add `demo` to the command line."""
    app.command("demo")(demo)
