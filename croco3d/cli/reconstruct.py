"""`croco3d reconstruct`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

SUFFIXES = (".glb", ".ply", ".npz")
DEFAULT_MODEL = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"


Images = Annotated[
    list[Path], typer.Argument(help="Photographs, folders of photographs, or one video.")
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Repository on the Hub, folder, or original .pth file.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write: .glb, .ply or .npz.")
]
Preview = Annotated[
    Path | None, typer.Option(help="Draw images, depth, confidence and the cloud to a .png.")
]
Colmap = Annotated[Path | None, typer.Option(help="Folder for a COLMAP project.")]
Nerfstudio = Annotated[Path | None, typer.Option(help="Folder for a nerfstudio project.")]
Gaussians = Annotated[Path | None, typer.Option(help="File for Gaussians to train on: .ply.")]
Trajectory = Annotated[Path | None, typer.Option(help="File for the cameras' path in TUM format.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Graph = Annotated[
    str, typer.Option(help="Pairs: complete, swin-3, logwin-3, oneref-0 or retrieval-4.")
]
Prefilter = Annotated[
    str | None, typer.Option(help="Leave out pairs far apart in the sequence: seq5, cyc5.")
]
MinConfidence = Annotated[
    float, typer.Option(min=0, max=100, help="Leave out so many percent of the points, the worst.")
]
MinPairConfidence = Annotated[
    float | None,
    typer.Option(help="Align pairs of at least this mean confidence; 1 takes all. Usually 1.05."),
]
MeshFlag = Annotated[bool, typer.Option("--mesh", help="Write a surface, not points.")]
Every = Annotated[int, typer.Option(min=1, help="Take one video frame in so many.")]
ImageSize = Annotated[
    int | None, typer.Option(min=32, help="Side in pixels that the network sees.")
]
Focal = Annotated[
    float | None, typer.Option(help="The photographs' focal length in pixels, if it is known.")
]
SharedFocal = Annotated[
    bool, typer.Option("--shared-focal", help="One camera, one focal length for all.")
]
KnownDistance = Annotated[
    tuple[int, int, float] | None,
    typer.Option(
        metavar="I J METRES",
        help="Metres between the cameras of two photographs, counted from 0; the scene is metric.",
    ),
]
Method = Annotated[
    str | None, typer.Option(help="Alignment: adam for the plain solver, pair for two photographs.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder that keeps predictions; a run can be resumed.")
]
MaxMemory = Annotated[str | None, typer.Option(help="Refuse work that needs more, such as 8GB.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pairs decoded together.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Go on without photographs that cannot be used.")
]
Optimize = Annotated[
    bool, typer.Option(help="Bring the network into the layout that runs fastest on a CPU.")
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary on stdout.")]


def reconstruct(
    images: Images,
    model: Model = DEFAULT_MODEL,
    output: Output = None,
    preview: Preview = None,
    colmap: Colmap = None,
    nerfstudio: Nerfstudio = None,
    gaussians: Gaussians = None,
    trajectory: Trajectory = None,
    device: Device = None,
    dtype: Dtype = None,
    graph: Graph = "complete",
    prefilter: Prefilter = None,
    min_confidence: MinConfidence = 0,
    min_pair_confidence: MinPairConfidence = None,
    mesh: MeshFlag = False,
    every: Every = 1,
    image_size: ImageSize = None,
    focal: Focal = None,
    shared_focal: SharedFocal = False,
    known_distance: KnownDistance = None,
    method: Method = None,
    cache: Cache = None,
    max_memory: MaxMemory = None,
    batch_size: BatchSize = None,
    skip_bad: SkipBad = False,
    optimize: Optimize = True,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Photographs of one scene in, coloured points and cameras out."""
    _check_outputs((output, SUFFIXES), (preview, (".png",)), (gaussians, (".ply",)))
    for folder in (colmap, nerfstudio):
        if folder is not None and folder.is_file():
            raise typer.BadParameter(f"{folder} is a file; name a folder.")
    from ..scene import KnownCamera
    from ..scene import reconstruct as run

    first = _first_process()
    scene = run(
        list(images),
        model=model,
        graph=graph,
        prefilter=prefilter,
        device=device,
        dtype=dtype,
        cameras=None if focal is None else KnownCamera(focal=focal),
        shared_focal=shared_focal,
        known_distance=known_distance,
        min_pair_confidence=min_pair_confidence,
        method=method,
        seed=seed,
        every=every,
        image_size=image_size,
        cache=cache,
        max_memory=max_memory,
        batch_size=batch_size,
        skip_bad=skip_bad,
        optimize=optimize,
        progress=first and sys.stderr.isatty(),
    )
    if first:
        write_outputs(scene, output, preview, {"min_confidence": min_confidence, "mesh": mesh})
        _export(colmap, scene.save_colmap)
        _export(nerfstudio, scene.save_nerfstudio)
        _export(gaussians, scene.save_gaussians)
        _export(trajectory, scene.save_tum)
        report(scene, as_json)


def _first_process() -> bool:
    """Whether this process speaks and writes; of several, which all hold the same scene, one."""
    first = os.environ.get("RANK", "0") == "0"
    if not first:
        logging.getLogger("croco3d").setLevel(logging.ERROR)
    return first


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
    from ..scene.preview import draw_preview

    _export(output, scene.save, **options)
    _export(preview, partial(draw_preview, scene), min_confidence=options.get("min_confidence", 0))


def _export(path: Path | None, save: Callable[..., None], **options: Any) -> None:
    if path is not None:
        save(path, **options)
        typer.echo(f"Wrote {path}", err=True)


def report(scene: Any, as_json: bool) -> None:
    """Say on stderr what was found and how long it took; with `as_json` print it on stdout."""
    from ..scene.summary import one_line, summarise

    summary = summarise(scene)
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in summary["seconds"].items())
    typer.echo(f"Took {stages}.", err=True)
    typer.echo(one_line(summary), err=True)
    if as_json:
        typer.echo(json.dumps(summary))


def _check_outputs(*outputs: tuple[Path | None, tuple[str, ...]]) -> None:
    """Refuse names that could not be written, before the work."""
    for path, suffixes in outputs:
        if path is not None and path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path} must end with {', '.join(suffixes)}.")
        if path is not None and path.is_dir():
            raise typer.BadParameter(f"{path} is a folder; name a file.")


def register(app: typer.Typer) -> None:
    """Add `reconstruct` to the command line."""
    app.command("reconstruct")(reconstruct)
