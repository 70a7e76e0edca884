"""`croco3d info`."""

from typing import Annotated, Any

import typer


def info(
    model: Annotated[
        str | None, typer.Argument(help="A folder, a .pth file, or a repository on the Hub.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH to state the memory for, such as 384x512.")
    ] = None,
    list_known: Annotated[bool, typer.Option("--list", help="List known weights.")] = False,
) -> None:
    """Show what a checkpoint holds: sizes, parameters, licence, memory needed."""
    if list_known:
        _list()
        return
    if model is None:
        raise typer.BadParameter("name a model, or pass --list.")
    from croco3d.hub import AutoCroco3D
    from croco3d.hub.convert import merged

    for line in _describe(merged(AutoCroco3D.from_pretrained(model)), size):
        typer.echo(line)


def _list() -> None:
    from croco3d.hub.known import KNOWN

    rows = [("name", "model", "parameters", "size", "revision", "licence", "what it is")]
    rows += [
        (
            weights.name,
            weights.model,
            f"{weights.parameters / 1e6:.1f} M",
            f"{weights.size / 1e9:.2f} GB",
            weights.revision or "-",
            weights.license,
            weights.note,
        )
        for weights in KNOWN
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _describe(model: Any, size: str | None) -> list[str]:
    from croco3d.hub.known import is_restrictive

    config = model.config
    lines = [f"{type(model).__name__}, images of {_size(config.image_size)} in training"]
    lines.append(f"licence: {config.license or 'not stated'}")
    if is_restrictive(config.license):
        lines[-1] += " (not for commercial use)"
    total = 0
    for name, child in model.named_children():
        count = sum(parameter.numel() for parameter in child.parameters())
        total += count
        lines.append(f"{name:8} {type(child).__name__:20} {count / 1e6:8.2f} M parameters")
    lines.append(f"{'in all':8} {'':20} {total / 1e6:8.2f} M parameters")
    if hasattr(model, "head1"):
        lines += _memory(config, _parse_size(size, config.image_size, model.encoder.patch_size))
    return lines


def _memory(config: Any, size: tuple[int, int]) -> list[str]:
    import torch

    from croco3d.hub.memory import memory_needed

    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        weights, peak = memory_needed(config, size, dtype)
        lines.append(
            f"memory for a pair of {size[0]}x{size[1]} in {str(dtype).removeprefix('torch.')}: "
            f"{weights / 1e9:.2f} GB of weights + {peak / 1e9:.2f} GB"
        )
    return lines


def _size(size: Any) -> str:
    return f"{size}x{size}" if isinstance(size, int) else f"{size[0]}x{size[1]}"


def _parse_size(text: str | None, image_size: Any, patch: int) -> tuple[int, int]:
    if text is None:
        side = image_size if isinstance(image_size, int) else max(image_size)
        height = side if side <= 224 else side * 3 // 4
        return height // patch * patch, side // patch * patch
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"--size must be HEIGHTxWIDTH, not {text!r}.") from error
    if height < 1 or width < 1 or height % patch or width % patch:
        raise typer.BadParameter(f"--size {text} must be multiples of the patch size {patch}.")
    return height, width


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(info)
