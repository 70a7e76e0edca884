"""Runs exported graphs."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def run_exported(
    path: str | os.PathLike, format: str, images: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Runs a graph once; see `open_exported`."""
    with torch.no_grad():
        return open_exported(path, format)(*images)


def open_exported(path: str | os.PathLike, format: str) -> Callable[..., tuple[Tensor, ...]]:
    """Opens a graph that `export_model` wrote.

    Args:
        path: the file.
        format: one of `FORMATS`.

    Returns:
        a function of two images `(B, 3, H, W)` in [-1, 1].

    Raises:
        ImportError: if ONNX Runtime is needed and not installed.
    """
    if format == "onnx":
        return _open_onnx(path)
    if format == "torch-export":
        return torch.export.load(path).module()  # pyright: ignore[reportReturnType]
    return torch._inductor.aoti_load_package(str(path))  # pyright: ignore[reportReturnType]


def _open_onnx(path: str | os.PathLike) -> Callable[..., tuple[Tensor, ...]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("Running ONNX needs onnxruntime: pip install croco3d[export].") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]

    def run(*images: Tensor) -> tuple[Tensor, ...]:
        feed = {name: image.numpy() for name, image in zip(names, images, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, feed))

    return run
