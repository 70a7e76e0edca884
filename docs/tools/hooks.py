"""What mkdocs fills into the pages: notebooks, the known weights, scenes made on the spot."""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.croco3d")

_CAPTION = re.compile(r"<!-- caption ((?:truth|model)-\w+) -->")
_SOURCE = re.compile(r'src="scene:((?:truth|model)-\w+)"')
# Notebook pages fetch a renderer of widgets from a CDN, whether they hold widgets or not.
_WIDGETS = re.compile(
    r"<script>\s*\(function\(\) \{\s*function addWidgetsRenderer.*?</script>", re.DOTALL
)


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: Any) -> Files:
    """Adds the notebooks of `examples/` as pages."""
    root = Path(config.config_file_path).parent
    for path in sorted((root / "examples").glob("*.ipynb")):
        relative = os.path.relpath(path, root)
        files.append(File(relative, str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fills in what the code says of itself."""
    if "<!-- known-weights -->" in markdown:
        markdown = markdown.replace("<!-- known-weights -->", known_weights())
    return _CAPTION.sub(lambda found: scene(found[1])[1], markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Puts scenes into the finished page, where they are too large for the Markdown parser."""
    output = _WIDGETS.sub("", output)
    return _SOURCE.sub(lambda found: f'src="{scene(found[1])[0]}"', output)


def known_weights() -> str:
    """The table of published checkpoints."""
    from croco3d.hub.known import KNOWN

    rows = [
        "| Weights | Class | Parameters | Size | Revision | Licence of the weights | What |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| `{w.name}` | `{w.model}` | {w.parameters / 1e6:.1f} M | {w.size / 1e9:.2f} GB | "
        f"{w.revision or '-'} | {w.license} | {w.note} |"
        for w in KNOWN
    ]
    return "\n".join(rows)


@cache
def _scenes() -> ModuleType:
    """The module beside this one, which is not on the path when mkdocs runs hooks."""
    spec = spec_from_file_location("scenes", Path(__file__).with_name("scenes.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def scene(name: str) -> tuple[str, str]:
    """A scene as a `data:` address, and its caption."""
    scenes = _scenes()
    logger.info("making the scene %s", name)
    kind, _, number = name.partition("-")
    count = scenes.view_count() if number == "all" else int(number)
    if kind == "truth":
        words = f"**The truth**: the room as it was built, seen by {count} cameras."
        return scenes.data_uri(scenes.true_room(count)), words
    made, errors = scenes.model_room(count)
    words = f"**The bundled model** on {count} views: {errors}."
    return scenes.data_uri(made), words
