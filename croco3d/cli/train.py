"""`croco3d train`."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    with timed_messages():
        run_training(settings)


@contextmanager
def timed_messages() -> Iterator[None]:
    """Show what the package logs on stderr, with the time, above the progress bar.

    Handlers of the root logger, whoever has set them up by then, see none of it meanwhile. Of
    several processes, those after the first only tell warnings.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    rank = os.environ.get("RANK", "0")
    ours = logging.getLogger("croco3d")
    level, propagate = ours.level, ours.propagate
    handler = logging.StreamHandler()
    process = "" if rank == "0" else f"process {rank}: "
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {process}%(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO if rank == "0" else logging.WARNING)
    ours.propagate = False
    try:
        with logging_redirect_tqdm([ours]):
            yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate


def register(app: typer.Typer) -> None:
    """Add `train` to the command line."""
    app.command("train")(train)
