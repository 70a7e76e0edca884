"""`croco3d train`."""

import logging
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes, such as optimizer.learning_rate=3e-4 data.train.0.root=DIR."),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="REPOSITORY", help="Upload the final model to this repository."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train a model; a run whose output folder holds a checkpoint goes on from it.

    On several GPUs or machines, start it by accelerate:
    `accelerate launch -m croco3d.training CONFIG`.
    """
    from croco3d.training import load_config, options
    from croco3d.training import train as run_training

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    changes = list(overrides or [])
    if push_to_hub is not None:
        changes.append(f"saving.push_to_hub={push_to_hub}")
    try:
        settings = load_config(config, changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if show:
        typer.echo(options.to_yaml(settings))
        return
    run_training(settings)


def register(app: typer.Typer) -> None:
    """Add `train` to the command line."""
    app.command("train")(train)
