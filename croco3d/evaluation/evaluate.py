"""Measure a model, and what it must beat, on any data set of stereo samples."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from croco3d.evaluation.baselines import ConstantDepth, IdentityPose, MeanPointmap
from croco3d.evaluation.classical import SiftTriangulation
from croco3d.evaluation.estimates import (
    Method,
    Sample,
    StereoEstimate,
    measure,
    restrict,
)
from croco3d.evaluation.models import ModelMethod
from croco3d.evaluation.pictures import draw_pair, save_picture
from croco3d.evaluation.report import EvaluationReport


class SampleSource(Protocol):
    """Anything with a length whose items are stereo samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample:
        """The sample at an index, the same each time."""
        ...


BASELINES: dict[str, Callable[[], Method]] = {
    "mean_pointmap": MeanPointmap,
    "constant_depth": ConstantDepth,
    "identity_pose": IdentityPose,
    "classical": SiftTriangulation,
}


def evaluate(
    model: Any,
    dataset: SampleSource,
    baselines: Sequence[str] = tuple(BASELINES),
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    pictures: int = 3,
    name: str = "model",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    known_intrinsics: bool = False,
) -> EvaluationReport:
    """Measure a model on pairs with known geometry.

    Args:
        model: a stereo model (it is put in evaluation mode while it is measured), any other
            `Method`, or `None` for the baselines alone.
        dataset: stereo samples, the same ones each time they are read.
        baselines: which of `BASELINES` to measure beside it.
        limit: measure that many pairs, spread evenly over the data set; `None` for all.
        output: folder for `report.json`, `report.md` and pictures; `None` writes nothing.
        pictures: how many of the best and of the worst pairs (by pointmap error) to draw.
        name: what the tables call the model.
        dtype: of autocast; `None` runs in the model's own precision.
        progress: show a progress bar on a terminal.
        known_intrinsics: measure the model once more as one that is told the true focals, which
            the classical baseline is in any case; see `ModelMethod`.

    Returns:
        The report; `report.summary[name]` holds the model's numbers, with known intrinsics
        `report.summary[f"{name}, known intrinsics"]`. Where the classical baseline
        is measured too, a further column holds the model's errors at its sparse pixels alone.

    Raises:
        ValueError: unknown baseline, empty data set, a limit that is not positive, or known
            intrinsics for something else than a stereo model.
    """
    indices = _chosen(len(dataset), limit)
    unknown = [baseline for baseline in baselines if baseline not in BASELINES]
    if unknown:
        raise ValueError(f"Unknown baselines {unknown}; choose from {list(BASELINES)}.")
    if known_intrinsics and not isinstance(model, torch.nn.Module):
        raise ValueError(f"known_intrinsics is for stereo models, not {type(model).__name__}.")
    bar = tqdm(
        total=len(indices), unit="pair", disable=not (progress and sys.stderr.isatty()), desc=name
    )

    def read() -> Iterator[Sample]:
        for index in indices:
            yield dataset[index]

    methods: list[Method] = [BASELINES[baseline]() for baseline in baselines]
    for method in methods:
        if isinstance(method, MeanPointmap):
            bar.set_description("fitting the mean pointmap")
            method.fit(read())
    with bar, _evaluation_mode(model):
        if model is not None:
            methods.insert(0, _as_method(model, name, dtype))
        if known_intrinsics:
            methods.insert(1, ModelMethod(model, f"{name}, known intrinsics", dtype, True))
        bar.set_description(name)
        report = _measure_all(methods, read(), bar)
        if output is not None:
            report.save(output)
            if methods and pictures:
                _draw_extremes(methods[0], dataset, indices, report, Path(output), pictures)
    return report


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    was_training = isinstance(model, torch.nn.Module) and model.training
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def _chosen(length: int, limit: int | None) -> list[int]:
    if not length:
        raise ValueError("The data set has no pairs to evaluate.")
    if limit is None or limit >= length:
        return list(range(length))
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    return [index * length // limit for index in range(limit)]


def _as_method(model: Any, name: str, dtype: torch.dtype | None) -> Method:
    if isinstance(model, torch.nn.Module):
        return ModelMethod(model, name, dtype)
    return model


def _measure_all(methods: list[Method], samples: Iterator[Sample], bar: tqdm) -> EvaluationReport:
    report = EvaluationReport([], {method.name: [] for method in methods})
    for sample in samples:
        keys = ("dataset", "name1", "name2")
        dataset, name1, name2 = (str(sample.get(key, "")) for key in keys)
        report.pairs.append((dataset, name1, name2))
        estimates = {method.name: method(sample) for method in methods}
        for name, estimate in (estimates | _on_sparse_pixels(methods, estimates)).items():
            report.errors.setdefault(name, []).append(measure(estimate, sample))
        latest = report.errors[methods[0].name][-1].get("pointmap") if methods else None
        if latest is not None:
            bar.set_postfix(error=f"{latest:.3f}", refresh=False)
        bar.update()
    return report


def _on_sparse_pixels(
    methods: list[Method], estimates: dict[str, StereoEstimate]
) -> dict[str, StereoEstimate]:
    """The first method's points where the classical one has some: the easy ones."""
    sparse = [method.name for method in methods[1:] if isinstance(method, SiftTriangulation)]
    first = methods[0].name if methods else ""
    if not sparse or estimates[first].pointmap1 is None:
        return {}
    return {f"{first}, SIFT's pixels": restrict(estimates[first], estimates[sparse[0]])}


def _draw_extremes(
    method: Method,
    dataset: SampleSource,
    indices: list[int],
    report: EvaluationReport,
    folder: Path,
    count: int,
) -> None:
    """Draw the pairs with the smallest and the largest pointmap errors, estimated once more."""
    errors = report.errors[method.name]
    ranked = sorted(
        (pair["pointmap"], position) for position, pair in enumerate(errors) if "pointmap" in pair
    )
    count = min(count, (len(ranked) + 1) // 2)
    for kind, chosen in (("best", ranked[:count]), ("worst", ranked[::-1][:count])):
        for rank, (error, position) in enumerate(chosen, start=1):
            sample = dataset[indices[position]]
            names = " ".join(report.pairs[position])
            caption = f"{kind} {rank} of {method.name}: error {error:.3f}  {names}"
            picture = draw_pair(method(sample), sample, caption)
            save_picture(picture, folder / f"{kind}_{rank}.png")
