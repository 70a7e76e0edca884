"""Writes a stereo model as one graph of two images in, pointmaps and confidences out."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import atomic_path
from ..modeling.stereo import StereoModel
from .running import run_exported

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2", "aoti": ".pt2"}
_OUTPUTS = (
    "pointmap1",
    "pointmap2",
    "confidence1",
    "confidence2",
    "descriptors1",
    "descriptors2",
    "descriptor_confidence1",
    "descriptor_confidence2",
)


class StereoGraph(nn.Module):
    """A stereo model with plain tensors in and out, as graph formats want it.

    Args:
        model: the model.
        names: which outputs to return, in this order.
    """

    def __init__(self, model: StereoModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, pixel_values1: Tensor, pixel_values2: Tensor) -> tuple[Tensor, ...]:
        """Maps images `(B, 3, H, W)` in [-1, 1] to the named outputs."""
        output = self.model(pixel_values1, pixel_values2, symmetrized=False)
        return tuple(output[name] for name in self.names)


def output_names(model: StereoModel) -> tuple[str, ...]:
    """Returns the names of what a model predicts, in the order of the exported graph."""
    with torch.no_grad():
        output = model(*_images(1, (64, 64), seed=0), symmetrized=False)
    return tuple(name for name in _OUTPUTS if output.get(name) is not None)


def capture(
    model: StereoModel, size: tuple[int, int], dynamic_size: bool = False
) -> torch.export.ExportedProgram:
    """Traces a model for any batch size, without gradients.

    Args:
        model: a stereo model, not optimized for inference.
        size: (height, width) of the images it is traced with.
        dynamic_size: whether the graph is to take other sizes too.

    Raises:
        ValueError: if the size does not fit the model's patches.
    """
    patch = model.encoder.patch_size
    if any(side % patch or side < patch for side in size):
        raise ValueError(
            f"The size {size[0]}x{size[1]} is no multiple of the model's patches of {patch} pixels."
        )
    shape: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=1024)}
    if dynamic_size:
        shape[2] = patch * torch.export.Dim("rows", min=2, max=256)
        shape[3] = patch * torch.export.Dim("columns", min=2, max=256)
    graph = StereoGraph(model.eval(), output_names(model))
    shapes = {"pixel_values1": shape, "pixel_values2": shape}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(graph, _images(2, size, seed=0), dynamic_shapes=shapes)


def export_model(
    model: StereoModel,
    output: str | os.PathLike,
    format: str = "onnx",
    size: tuple[int, int] = (384, 512),
    dynamic_size: bool = False,
) -> Path:
    """Writes a model as a graph that takes `pixel_values1`, `pixel_values2` of any batch size.

    Args:
        model: a stereo model with any head, not optimized for inference.
        output: the file to write; large ONNX weights go to a `.data` file beside it.
        format: one of `FORMATS`; "aoti" compiles for this machine and needs a C++ compiler.
        size: (height, width) of the images.
        dynamic_size: whether the graph is to take other sizes too.

    Returns:
        the file.

    Raises:
        ValueError: if the format is unknown or the size does not fit.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; choose one of {', '.join(FORMATS)}.")
    program, path = capture(model, size, dynamic_size), Path(output)
    if format == "onnx":
        _write_onnx(program, path, output_names(model))
    elif format == "torch-export":
        with atomic_path(path) as temporary:
            torch.export.save(program, temporary)
    else:
        from torch._inductor import aoti_compile_and_package

        aoti_compile_and_package(program, package_path=str(path))
    return path


def compare(
    model: StereoModel, path: str | os.PathLike, format: str, size: tuple[int, int]
) -> dict[str, float]:
    """Runs a graph and the model it was made from on the same random images.

    Args:
        model: the model.
        path: what `export_model` wrote.
        format: one of `FORMATS`.
        size: (height, width) of the images.

    Returns:
        for each output the norm of the difference over the norm of the model's.
    """
    names, images = output_names(model), _images(1, size, seed=1)
    with torch.no_grad():
        expected = StereoGraph(model, names)(*images)
    found = run_exported(path, format, images)
    return {
        name: float((a - b).norm() / b.norm())
        for name, a, b in zip(names, found, expected, strict=True)
    }


def _write_onnx(program: torch.export.ExportedProgram, path: Path, names: tuple[str, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx_program = torch.onnx.export(program, (), dynamo=True, verbose=False)
    assert onnx_program is not None
    for value, name in zip(onnx_program.model.graph.outputs, names, strict=True):
        value.name = name
    # External weights are named after the file, so it is written in place.
    onnx_program.save(path)


def _images(batch: int, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(batch, 3, *size, generator=generator) * 2 - 1 for _ in range(2))
    return first, second
