"""Serving the app."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

from .models import KeptModel
from .sessions import Limits, Reconstruct, Sessions

logger = logging.getLogger(__name__)


def launch(
    reconstruct: Reconstruct | None = None,
    *,
    models: Sequence[str] | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    block: bool = True,
) -> tuple[Any, Sessions, str]:
    """Serve the app.

    Args:
        reconstruct: What makes a scene of photographs; by default `croco3d.reconstruct`, with one
            model kept in memory between scenes.
        models: Models to choose from; by default the published ones.
        limits: What a visitor may ask for.
        host: Address to listen on; by default only this machine can connect.
        port: Where to listen; None takes a free one.
        block: Serve until Ctrl-C, then remove all files. Otherwise the caller closes the page and
            calls `Sessions.close_all`.

    Returns:
        The page, the sessions and the address.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the port is in use.
    """
    try:
        import gradio as gr

        from .interface import STYLE, build_app
    except ImportError as error:
        raise ImportError(f'The app needs Gradio: pip install "croco3d[app]" ({error}).') from error
    sessions = Sessions(reconstruct or KeptModel(), limits or Limits())
    # Gradio stores uploads and what it serves there; it reads the variable when a page is built.
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.root)
    page = build_app(sessions, models)
    fonts = ["system-ui", "sans-serif"]
    try:
        _, address, _ = page.queue(max_size=16).launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{sessions.limits.file_megabytes}mb",
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            theme=gr.themes.Soft(font=fonts, font_mono=["ui-monospace", "monospace"]),
            css=STYLE,
        )
        logger.info("Open %s in a browser; Ctrl-C ends.", address)
        if block:
            _wait()
            page.close(verbose=False)
            sessions.close_all()
    except BaseException:
        sessions.close_all()
        raise
    return page, sessions, address


def _wait() -> None:
    """Sleep until Ctrl-C, or until the process is asked to end."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    logger.info("Closed the app and removed its files.")
