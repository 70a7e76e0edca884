"""The `croco3d` program: its commands, and how errors end.

Commands import what they need when they run, so that `croco3d --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from .. import __version__
from . import app, convert, data, demo, evaluate, export, info, reconstruct, train, view

COMMANDS = (reconstruct, view, app, demo, train, evaluate, data, convert, export, info)


def build_app() -> typer.Typer:
    """Assemble the program from its commands."""
    app = typer.Typer(
        name="croco3d",
        help="3-D from photographs with cross-view transformers: CroCo, DUSt3R and descendants.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_common)
    for command in COMMANDS:
        command.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"croco3d {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Goes anywhere.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    An error ends as one sentence on stderr and exit code 1, wrong usage with code 2, Ctrl-C with
    130. `--debug` shows the traceback instead of the sentence.

    Args:
        arguments: What follows the program's name; the process's own by default.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    try:
        with _messages(debug):
            typer.main.get_command(build_app())(
                args=[argument for argument in given if argument != "--debug"], prog_name="croco3d"
            )
    except Exception as error:
        if debug:
            raise
        typer.echo(f"croco3d: error: {sentence(error)}", err=True)
        sys.exit(1)


def sentence(error: Exception) -> str:
    """What to tell a user about an error, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}."
    if isinstance(error, (ValueError, OSError, ImportError, RuntimeError)) and text:
        return text
    name = type(error).__name__
    return f"{name}: {text} (--debug shows where)." if text else f"{name} (--debug shows where)."


@contextmanager
def _messages(debug: bool) -> Iterator[None]:
    """Send what the package has to say to stderr, a line each."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not debug:
        # Its retries would bury the one sentence that says what happened.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("croco3d")
    root.addHandler(handler)
    level, show = ours.level, warnings.showwarning
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        warnings.showwarning = _show_warning
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
        warnings.showwarning = show


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    # What concerns developers only is of no use at a command line.
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
        typer.echo(f"Warning: {' '.join(str(message).split())}", err=True)
