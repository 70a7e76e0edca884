"""Opening everything that a data set names, and saying what is wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..images import load_image
from .draws import UNREADABLE
from .frames import Frame, PairSource
from .image_pairs import ImagePairFolder
from .loading import load_frame
from .overlap import SmallView, reproject, small_view

# What a scene's middle depth may be in metres before it looks like another unit.
_DEPTH_RANGE = (0.05, 500.0)

# Rendered rooms and a real stereo pair gave medians of 0.96 to 0.98; with inverted poses, another
# convention or doubled depth the rooms gave 0.09 to 0.46.
_LEAST_CORRELATION = 0.5


@dataclass(frozen=True)
class Finding:
    """Something wrong with a frame or a pair.

    Attributes:
        where: The frame's name, or both of a pair.
        problem: A word for the kind: unreadable, depth, scale, overlap, inconsistent or colours.
        message: What was found and what it may come from.
    """

    where: str
    problem: str
    message: str


@dataclass(frozen=True)
class PairCheck:
    """What reprojecting a pair's points said.

    Attributes:
        index: The pair.
        overlap: Share of the first view's points that the second sees.
        ratio: Median of the second view's depth over the reprojected depth; 1 when they agree.
        agreement: Share of the points in front of or on the second view's surface that lie on it.
        colours: Correlation of brightness between points and the pixels that they fall on, of those
            on the surface.
    """

    index: int
    overlap: float
    ratio: float
    agreement: float
    colours: float


@dataclass
class Report:
    """What a check found.

    Attributes:
        name: The data set.
        frames: How many frames were opened, of `total_frames`.
        pairs: What every pair that was compared said, of `total_pairs`.
        findings: What is wrong.
    """

    name: str
    total_frames: int
    total_pairs: int
    frames: int = 0
    pairs: list[PairCheck] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_source(
    source: PairSource,
    max_frames: int | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """Open the frames of a data set and compare the depths of its pairs.

    Args:
        source: The data set.
        max_frames: Open a random choice of so many frames only.
        max_pairs: Compare a random choice of so many pairs only.
        seed: Decides the choices.
        progress: Whether to show a bar (on a terminal).
    """
    rng = np.random.default_rng(seed)
    report = Report(source.name, len(source.frames), len(source))
    quiet = None if progress else True  # None: quiet unless on a terminal
    for index in tqdm(_choice(len(source.frames), max_frames, rng), desc="frames", disable=quiet):
        report.frames += 1
        report.findings += check_frame(source.frames[index])
    view = _remembered(source)
    for index in tqdm(_choice(len(source), max_pairs, rng), desc="pairs", disable=quiet):
        first, second = (view(int(i)) for i in source.pairs[index])
        if first is not None and second is not None:
            result = compare_depths(index, first, second)
            report.pairs.append(result)
            names = " and ".join(frame.name for frame in source.pair(index))
            report.findings += _judge(names, result)
    report.findings += _judge_colours(source.name, report.pairs)
    return report


def check_image_pairs(
    folder: ImagePairFolder, max_frames: int | None = None, seed: int = 0, progress: bool = True
) -> Report:
    """Open the images of CroCo's pairs; there is no geometry to compare.

    Args:
        folder: The data set.
        max_frames: Open a random choice of so many images only.
        seed: Decides the choice.
        progress: Whether to show a bar (on a terminal).
    """
    names = sorted({name for pair in folder.pairs for name in pair})
    report = Report(folder.name, len(names), len(folder))
    chosen = _choice(len(names), max_frames, np.random.default_rng(seed))
    for index in tqdm(chosen, desc="images", disable=None if progress else True):
        report.frames += 1
        try:
            load_image(folder.root / names[index])
        except UNREADABLE as error:
            report.findings.append(Finding(names[index], "unreadable", str(error)))
    return report


def check_frame(frame: Frame) -> list[Finding]:
    """Open one frame and look at its camera and depth."""
    try:
        loaded = load_frame(frame)
    except UNREADABLE as error:
        return [Finding(frame.name, "unreadable", f"{error}")]
    valid = loaded.depth[loaded.depth > 0]
    if not len(valid):
        return [Finding(frame.name, "depth", "no pixel has a valid depth.")]
    findings = []
    if not loaded.sparse_depth and len(valid) < 0.05 * loaded.depth.size:
        share = len(valid) / loaded.depth.size
        findings.append(
            Finding(frame.name, "depth", f"only {share:.1%} of the pixels have a valid depth.")
        )
    if len(valid) > 100 and valid.min() == valid.max():
        findings.append(Finding(frame.name, "depth", f"every depth is {valid[0]:g}."))
    middle = float(np.median(valid))
    if not _DEPTH_RANGE[0] <= middle <= _DEPTH_RANGE[1]:
        message = f"the median depth is {middle:.4g}; in metres? Is {_unit(middle)}"
        findings.append(Finding(frame.name, "scale", message))
    return findings


def _unit(middle: float) -> str:
    if middle > _DEPTH_RANGE[1]:
        return "the depth stored in millimetres (depth_scale 0.001)?"
    return "depth_scale too small, or the depth stored in metres already?"


def compare_depths(index: int, first: SmallView, second: SmallView) -> PairCheck:
    """Reproject the first view's points into the second and compare depths, and the reverse."""
    shares, ratios, agreements, colours = [], [], [], []
    for one, other in ((first, second), (second, first)):
        seen = reproject(one.points, other)
        known, same = seen.measured > 0, seen.agrees(0.05)
        shares.append(same.sum() / max(1, len(one.points)))
        own = one.grey[one.depth > 0][seen.inside][same]
        colours.append(_correlation(own, other.grey[seen.pixels[same, 1], seen.pixels[same, 0]]))
        if known.sum() >= 20:
            ratio = seen.measured[known] / seen.depth[known]
            # A point well behind the other view's surface may just be hidden by it.
            open_to_view = ratio > 0.95
            ratios.append(float(np.median(ratio)))
            agreements.append(float((np.abs(ratio - 1) <= 0.05).sum() / max(1, open_to_view.sum())))
    if not ratios:
        return PairCheck(index, float(min(shares)), *[float("nan")] * 3)
    # A wrong scale of one frame turns one direction's ratio up and the other's down.
    worst = max(ratios, key=lambda ratio: abs(np.log(ratio)))
    return PairCheck(
        index, float(min(shares)), worst, float(np.mean(agreements)), float(np.mean(colours))
    )


def _correlation(first: NDArray, second: NDArray) -> float:
    """Correlate brightness; NaN where there is too little to compare."""
    if len(first) < 50 or min(first.std(), second.std()) < 2:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _judge_colours(name: str, pairs: list[PairCheck]) -> list[Finding]:
    """Colours tell wrong poses where depth cannot: before a wall any shift looks consistent.

    Single pairs may differ by light or lack texture, so the data set is judged as a whole.
    """
    values = [one.colours for one in pairs if not np.isnan(one.colours)]
    if not values or np.median(values) >= _LEAST_CORRELATION:
        return []
    message = (
        f"reprojected points land on other colours (median correlation {np.median(values):.2f} "
        f"over {len(values)} pairs); are poses in another convention (camera to world, OpenCV's "
        "axes), or depth in another unit than the poses?"
    )
    return [Finding(name, "colours", message)]


def worst_first(pairs: list[PairCheck]) -> list[PairCheck]:
    """Sort pairs by agreement, those that could not be compared before all others."""
    return sorted(pairs, key=lambda one: -1.0 if np.isnan(one.agreement) else one.agreement)


def _judge(names: str, result: PairCheck) -> list[Finding]:
    if np.isnan(result.ratio):
        message = "neither view sees 20 points of the other; their poses or the pairing are wrong."
        return [Finding(names, "overlap", message)]
    if result.agreement < 0.3 and not 1 / 1.5 < result.ratio < 1.5:
        message = (
            f"depth and reprojected depth differ by a factor of {result.ratio:.3g}; is depth_scale "
            "wrong, or are poses and depth in different units?"
        )
        return [Finding(names, "inconsistent", message)]
    if result.agreement < 0.3:
        message = (
            f"only {result.agreement:.0%} of the points in view lie on the other view's surface; "
            "are poses in another convention (camera to world, OpenCV's axes), or intrinsics for "
            "another size?"
        )
        return [Finding(names, "inconsistent", message)]
    return []


def _choice(count: int, at_most: int | None, rng: np.random.Generator) -> list[int]:
    if at_most is None or at_most >= count:
        return list(range(count))
    return sorted(rng.choice(count, size=at_most, replace=False).tolist())


def _remembered(source: PairSource) -> Callable[[int], SmallView | None]:
    """Give small views by frame number, None for unreadable frames; the latest are kept."""

    @lru_cache(maxsize=2048)
    def view(index: int) -> SmallView | None:
        try:
            return small_view(load_frame(source.frames[index]), width=96)
        except UNREADABLE:
            return None

    return view
