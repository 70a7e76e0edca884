"""`croco3d export`."""

from pathlib import Path
from typing import Annotated

import typer

# ONNX Runtime must agree with PyTorch to this; the other formats run PyTorch's own kernels.
TOLERANCE = 1e-3


def export(
    model: Annotated[str, typer.Argument(help="Folder, .pth file or repository of a model.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    format: Annotated[str, typer.Option(help="onnx, torch-export or aoti.")] = "onnx",
    height: Annotated[int, typer.Option(help="Height of the images in pixels.")] = 384,
    width: Annotated[int, typer.Option(help="Width of the images in pixels.")] = 512,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Take images of other sizes too.")
    ] = False,
) -> None:
    """Write a stereo model as a graph that runs without croco3d, and compare the two."""
    from croco3d import AutoCroco3D
    from croco3d.export import compare, export_model
    from croco3d.modeling.stereo import StereoModel

    loaded = AutoCroco3D.from_pretrained(model)
    if not isinstance(loaded, StereoModel):
        raise ValueError(f"{model!r} is no model of two views; DUSt3R and MASt3R can be exported.")
    size = (height, width)
    path = export_model(loaded.eval(), output, format, size, dynamic_size)
    errors = compare(loaded, path, format, size)
    typer.echo(f"Wrote {path}. Relative difference to PyTorch:")
    for name, error in errors.items():
        typer.echo(f"  {name:24s} {error:.1e}")
    if max(errors.values()) > TOLERANCE:
        raise ValueError(
            f"The exported graph differs by more than {TOLERANCE}: do not use it; please report it."
        )


def register(app: typer.Typer) -> None:
    """Add `export` to the command line."""
    app.command("export")(export)
