"""`croco3d reconstruct`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

SUFFIXES = (".glb", ".ply", ".npz")
DEFAULT_MODEL = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"


def reconstruct(
    images: Annotated[
        list[Path], typer.Argument(help="Photographs, folders of photographs, or one video.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Repository on the Hub, folder, or original .pth file."),
    ] = DEFAULT_MODEL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .glb, .ply or .npz.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help="Draw images, depth, confidence and the cloud to a .png.")
    ] = None,
    colmap: Annotated[Path | None, typer.Option(help="Folder for a COLMAP project.")] = None,
    nerfstudio: Annotated[
        Path | None, typer.Option(help="Folder for a nerfstudio project.")
    ] = None,
    trajectory: Annotated[
        Path | None, typer.Option(help="File for the cameras' path in TUM format.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    graph: Annotated[
        str, typer.Option(help="Pairs: complete, swin-3, logwin-3, oneref-0 or retrieval-4.")
    ] = "complete",
    min_confidence: Annotated[
        float,
        typer.Option(min=0, max=100, help="Leave out so many percent of the points, the worst."),
    ] = 0,
    mesh: Annotated[bool, typer.Option("--mesh", help="Write a surface, not points.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Take one video frame in so many.")] = 1,
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Side in pixels that the network sees.")
    ] = None,
    shared_focal: Annotated[
        bool, typer.Option("--shared-focal", help="One camera, one focal length for all.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps predictions; a run can be resumed.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Refuse work that needs more, such as 8GB.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without photographs that cannot be used.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary on stdout.")] = False,
) -> None:
    """Photographs of one scene in, coloured points and cameras out."""
    _check_outputs(output, preview)
    from ..scene import reconstruct as run

    scene = run(
        list(images),
        model=model,
        graph=graph,
        device=device,
        dtype=dtype,
        seed=seed,
        every=every,
        image_size=image_size,
        shared_focal=shared_focal,
        cache=cache,
        max_memory=max_memory,
        skip_bad=skip_bad,
        progress=sys.stderr.isatty(),
    )
    # With several processes, all hold the same scene; one writes it.
    if os.environ.get("RANK", "0") == "0":
        options = {"min_confidence": min_confidence, "mesh": mesh}
        write_outputs(scene, output, preview, options)
        for folder, save in ((colmap, scene.save_colmap), (nerfstudio, scene.save_nerfstudio)):
            if folder is not None:
                save(folder)
                typer.echo(f"Wrote {folder}", err=True)
        if trajectory is not None:
            scene.save_tum(trajectory)
            typer.echo(f"Wrote {trajectory}", err=True)
        report(scene, as_json)


def write_outputs(
    scene: Any, output: Path | None, preview: Path | None, options: dict[str, Any]
) -> None:
    """Write the scene and its picture, and say so on stderr.

    Args:
        scene: The scene.
        output: A `.glb`, `.ply` or `.npz` file, if any.
        preview: A `.png` file, if any.
        options: Of `Scene.save`.
    """
    if output is not None:
        scene.save(output, **options)
        typer.echo(f"Wrote {output}", err=True)
    if preview is not None:
        from ..scene.preview import draw_preview

        draw_preview(scene, preview, min_confidence=options.get("min_confidence", 0))
        typer.echo(f"Wrote {preview}", err=True)


def report(scene: Any, as_json: bool) -> None:
    """Say on stderr what was found and how long it took; with `as_json` print it on stdout."""
    from ..scene.summary import one_line, summarise

    summary = summarise(scene)
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in summary["seconds"].items())
    typer.echo(f"Took {stages}.", err=True)
    typer.echo(one_line(summary), err=True)
    if as_json:
        typer.echo(json.dumps(summary))


def _check_outputs(output: Path | None, preview: Path | None) -> None:
    """Refuse names that could not be written, before the work."""
    for path, suffixes in ((output, SUFFIXES), (preview, (".png",))):
        if path is not None and path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path} must end with {', '.join(suffixes)}.")
        if path is not None and path.is_dir():
            raise typer.BadParameter(f"{path} is a folder; name a file.")


def register(app: typer.Typer) -> None:
    """Add `reconstruct` to the command line."""
    app.command("reconstruct")(reconstruct)
