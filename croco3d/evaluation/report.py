"""Tables of errors: what each number means, summaries, JSON and Markdown."""

import json
import math
import os
import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from croco3d.evaluation.cameras import pose_accuracy
from croco3d.files import atomic_path


class Metric(NamedTuple):
    """How a number is shown.

    Attributes:
        title: what it is, alignment and unit included.
        share: whether it is a share of one, shown in percent.
    """

    title: str
    share: bool = False


METRICS = {
    "pointmap": Metric("Pointmap error, normalised as in training (truth's mean distance)"),
    "pointmap_median": Metric("... of the median pair"),
    "pointmap1": Metric("... of view 1"),
    "pointmap2": Metric("... of view 2"),
    "pointmap_scale": Metric("Pointmap error after one robust scale (truth's mean distance)"),
    "pointmap_similarity": Metric("Pointmap error after a robust similarity (same unit)"),
    "coverage": Metric("Share of true pixels with an estimate", share=True),
    "abs_rel_none": Metric("Depth AbsRel, not aligned (view 1)"),
    "delta_none": Metric("Depth within 1.25, not aligned (view 1)", share=True),
    "abs_rel_median_scale": Metric("Depth AbsRel, median scale (view 1)"),
    "abs_rel_median_scale_median": Metric("... of the median pair"),
    "delta_median_scale": Metric("Depth within 1.25, median scale (view 1)", share=True),
    "abs_rel_scale_shift": Metric("Depth AbsRel, least-squares scale and shift (view 1)"),
    "delta_scale_shift": Metric("Depth within 1.25, scale and shift (view 1)", share=True),
    "normal_degrees": Metric("Normal error, mean degrees (view 1)"),
    "normal_within": Metric("Normals within 11.25 degrees (view 1)", share=True),
    "accuracy": Metric("Cloud accuracy, normalised (truth's mean distance)"),
    "completeness": Metric("Cloud completeness, normalised (same unit)"),
    "chamfer": Metric("Cloud Chamfer, normalised (same unit)"),
    "f_score": Metric("Cloud F-score at 0.05 of the truth's mean distance", share=True),
    "rra_5": Metric("Relative rotation within 5 degrees (RRA@5)", share=True),
    "rra_15": Metric("Relative rotation within 15 degrees (RRA@15)", share=True),
    "rta_5": Metric("Translation direction within 5 degrees (RTA@5)", share=True),
    "rta_15": Metric("Translation direction within 15 degrees (RTA@15)", share=True),
    "maa_30": Metric("Both within a limit, mean over 1 to 30 degrees (mAA@30)", share=True),
    "rotation_median": Metric("Rotation error, median degrees"),
    "translation_median": Metric("Translation direction error, median degrees"),
    "focal": Metric("Focal error, relative (view 1)"),
}


def summarise(errors: list[dict[str, float]]) -> dict[str, float]:
    """Mean errors over pairs, and shares of right poses.

    Means are over the pairs for which a method has the number (see `coverage`); poses that were
    not found count as wrong.

    Args:
        errors: what `measure` gave for each pair.
    """
    summary = {}
    for name in METRICS:
        values = [pair[name] for pair in errors if name in pair]
        if values:
            summary[name] = math.fsum(values) / len(values)
            # One wild pair can own a mean.
            if f"{name}_median" in METRICS:
                summary[f"{name}_median"] = statistics.median(values)
    posed = [pair for pair in errors if "rotation" in pair]
    if posed:
        rotation = torch.tensor([pair["rotation"] for pair in posed], dtype=torch.float64)
        directions = [pair.get("translation", math.nan) for pair in posed]
        translation = torch.tensor(directions, dtype=torch.float64)
        summary |= vars(pose_accuracy(rotation, translation))
        summary["rotation_median"] = float(rotation.median())
        summary["translation_median"] = float(translation.nanmedian())
    return {name: value for name, value in summary.items() if math.isfinite(value)}


@dataclass
class EvaluationReport:
    """Errors of several methods on the same pairs.

    Attributes:
        pairs: names of the pairs, (dataset, view 1, view 2).
        errors: for each method, for each pair, the numbers `measure` could tell.
    """

    pairs: list[tuple[str, str, str]]
    errors: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """For each method the numbers named in `METRICS`."""
        return {name: summarise(errors) for name, errors in self.errors.items()}

    def markdown(self) -> str:
        """A table: a row for each number, a column for each method."""
        summary = self.summary
        header = ["", *summary]
        lines = [_row(header), _row(["---", *["---:"] * len(summary)])]
        for name, metric in METRICS.items():
            if any(name in numbers for numbers in summary.values()):
                cells = [_format(numbers.get(name), metric) for numbers in summary.values()]
                lines.append(_row([metric.title, *cells]))
        note = (
            f"{len(self.pairs)} pairs. Means are over the pairs for which a method has the number; "
            "poses that were not found count as wrong."
        )
        return "\n".join([*lines, "", note, ""])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `report.json` (everything) and `report.md` (the table) into a folder."""
        everything = {"pairs": self.pairs, "summary": self.summary, "errors": self.errors}
        with atomic_path(os.path.join(folder, "report.json")) as path:
            path.write_text(json.dumps(everything, indent=1, allow_nan=False) + "\n")
        with atomic_path(os.path.join(folder, "report.md")) as path:
            path.write_text(self.markdown())


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _format(value: float | None, metric: Metric) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if metric.share else f"{value:.4g}"
