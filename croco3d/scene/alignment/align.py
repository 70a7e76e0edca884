"""From predictions of pairs to one scene."""

import logging
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..camera import Camera
from ..known import known_cameras
from ..pairs import check_connected
from ..predictions import PairPredictions
from ..scene import Scene
from .adam import descend_all
from .averaging import Frames, average_frames, tree_frames
from .dense import DenseMaps, maps_from_depth, solve_depths
from .presets import Presets, place_at_known, read_presets, settle_frame
from .refine import image_bar, refine_on_all, refine_on_samples
from .request import Known, Place, between_cameras, check_request
from .residuals import Noise, compute_residuals, measure, robust_sigmas
from .shapes import FOCAL_RANGE, Edges, Shapes, measure_edges, merge_shapes
from .state import Observations, State, image_observations, sample_observations
from .workers import block_workers

logger = logging.getLogger(__name__)

# Pixels of an image, for many and for few pairs. The last steps see all pixels, so that more
# samples gained no accuracy in simulated rooms, however noisy; with fewer the steps grow in number.
SAMPLES = (192, 768)
SAMPLED_POINTS = 6_000
MIN_CONFIDENCE = 1.05
FIRST_SIGMA = 0.02


def align(
    predictions: PairPredictions,
    method: str | None = None,
    cameras: Known = None,
    seed: int = 0,
    shared_focal: bool = False,
    known_distance: tuple[Place, Place, float] | None = None,
    min_confidence: float | None = None,
    progress: bool = False,
) -> Scene:
    """Bring all pairs into one world and estimate a camera and a depth map an image.

    The default places the images by robust averages of the pairs' similarities, refines cameras and
    pairs together by Gauss-Newton steps with the depths eliminated, first on sampled pixels, then
    with the gradient of all, and reads the depths off in closed form. Time grows with pairs times
    pixels; memory holds one image's predictions at a time beside the result. "adam" is first-order
    descent on every pixel. "pair" is the closed form for two images, which the default refines.

    The world is that of the known poses; without any it is the first image's camera, and the unit
    makes the geometric mean of the pairs' scales one. `Scene.oriented` and `Scene.centered` choose
    another frame.

    Args:
        predictions: What the network said of the pairs.
        method: None (the best for the number of images), "adam" or "pair".
        cameras: What is known of the cameras in original pixels: a list with one entry an image or
            a mapping by index, of `KnownCamera` or `Camera`; or one `KnownCamera` for all.
        seed: Of the choice of sampled pixels.
        shared_focal: Whether all photographs have one focal, in original pixels.
        known_distance: `(i, j, metres)` between the optical centres of two images, or
            `((i, u, v), (j, u, v), metres)` between the points seen at two original pixels.
        min_confidence: Pairs count where the mean confidence of both views is at least this; 1
            takes all. By default 1.05, or where no pair at all reaches that, 1.05 after
            confidences were brought to a common scale by their median, with a warning.
        progress: Whether to show a bar.

    Returns:
        The scene, float32.

    Raises:
        ValueError: For fewer than two images, images without a confident pair, pairs that leave
            the images in several groups, or known numbers that contradict each other.
    """
    presets = read_presets(
        predictions, known_cameras(cameras, predictions.image_count), shared_focal
    )
    check_request(presets.sizes, predictions.names or [], method, presets.cameras, known_distance)
    distance = between_cameras(known_distance)
    given = predictions
    with block_workers() as workers:
        predictions, obs = _sample_confident(predictions, min_confidence, seed)
        shapes = merge_shapes(obs, presets.principal_points, presets.focals)
        edges = measure_edges(obs, shapes)
        if method != "adam":
            closed = method == "pair"
            state, maps = _align_best(
                predictions, obs, presets, shapes, edges, distance, closed, workers, progress
            )
    if method == "adam":
        state, maps = _align_adam(predictions, presets, shapes, edges, distance, progress)
    scene = _assemble(predictions, presets, state, maps)
    scene.info |= {
        "method": method or "best",
        "pairs": len(predictions),
        "relative_confidences": predictions.confidence_unit != given.confidence_unit,
    }
    if known_distance is not None and distance is None:
        scene = _rescale_by_pixels(scene, known_distance, presets)
    return replace(scene, metric=known_distance is not None or len(presets.posed) > 1)


def _sample_confident(
    predictions: PairPredictions, min_confidence: float | None, seed: int
) -> tuple[PairPredictions, Observations]:
    """The predictions that count, and samples of them."""
    samples = min(max(SAMPLED_POINTS // (2 * len(predictions)), SAMPLES[0]), SAMPLES[1])
    obs = sample_observations(predictions, samples, seed)
    highest = float(_pair_confidences(obs).max())
    if min_confidence is None and highest < MIN_CONFIDENCE:
        logger.warning(
            "No pair is confident: the highest mean confidence is %.4g, where %g is needed. "
            "Confidences are compared with each other instead; do not trust the scene blindly.",
            highest, MIN_CONFIDENCE,
        )  # fmt: skip
        predictions = _relative_confidences(predictions)
        obs = sample_observations(predictions, samples, seed)
    least = MIN_CONFIDENCE if min_confidence is None else min_confidence
    kept = _confident_pairs(predictions, obs, least)
    if len(kept) == len(predictions):
        return predictions, obs
    logger.info("%d of %d pairs are confident enough", len(kept), len(predictions))
    predictions = predictions.select(kept)
    return predictions, sample_observations(predictions, samples, seed)


def _pair_confidences(obs: Observations) -> Tensor:
    """Mean confidences `(E,)` of the pairs, each that of its less confident view."""
    return obs.weights.mean(1).exp().reshape(-1, 2).amin(1)


def _relative_confidences(predictions: PairPredictions) -> PairPredictions:
    """Bring the typical confidence to 2, and what means none to 1.

    A model that learnt little stays near 1 everywhere, and one with sigmoid confidences below it;
    what they say of one pixel against another is still worth having.
    """
    views = [(pair, view) for pair in range(len(predictions)) for view in (0, 1)]
    medians = [predictions.read(*view)[1].median() for view in views]
    typical = float(torch.stack(medians).median())
    none = 1.0 if typical > 1 else 0.0
    return predictions.rescale_confidences(none, typical - none) if typical > none else predictions


def _align_best(
    predictions: PairPredictions,
    obs: Observations,
    presets: Presets,
    shapes: Shapes,
    edges: Edges,
    distance: tuple[int, int, float] | None,
    closed: bool,
    workers: Executor,
    progress: bool,
) -> tuple[State, list[DenseMaps]]:
    frames = average_frames(predictions.image_count, edges)
    state = _start(frames, presets, shapes, edges)
    freedom = presets.freedom()
    if closed:
        noise = Noise.equal(len(predictions), FIRST_SIGMA)
        lengths = compute_residuals(obs, state, measure(obs, noise)).lengths
        noise = Noise(robust_sigmas(obs, lengths))
    else:
        state, noise = refine_on_samples(obs, state, freedom)
        state = refine_on_all(predictions, obs, state, freedom, noise, workers, progress=progress)
    state = settle_frame(state, presets, distance)
    images = image_bar(predictions.image_count, "depth maps", progress)
    return state, [solve_depths(predictions, n, state, noise, workers) for n in images]


def _align_adam(
    predictions: PairPredictions,
    presets: Presets,
    shapes: Shapes,
    edges: Edges,
    distance: tuple[int, int, float] | None,
    progress: bool,
) -> tuple[State, list[DenseMaps]]:
    count = predictions.image_count
    frames = tree_frames(count, edges)
    state = _start(frames, presets, shapes, edges)
    noise = Noise.equal(len(predictions), FIRST_SIGMA)
    depths, weights = [], []
    for n in range(count):
        obs = image_observations(predictions, n)
        how = measure(obs, noise)
        depths.append(compute_residuals(obs, state, how, rounds=0).depths[0])
        weights.append(obs.weights.amax(0, keepdim=True))
    state, depths = descend_all(predictions, state, presets.freedom(), depths, progress)
    before = state.pair_scales[0]
    state = settle_frame(state, presets, distance)
    factor = float(state.pair_scales[0] / before)
    maps = [
        maps_from_depth(predictions, n, state, depths[n] * factor, weights[n])
        for n in range(count)
    ]  # fmt: skip
    return state, maps


def _start(frames: Frames, presets: Presets, shapes: Shapes, edges: Edges) -> State:
    """Cameras where the shapes were placed; every pair in its first image's camera."""
    first = edges.first
    focals = presets.share_focals(shapes.focals)
    side = 2 * presets.principal_points.amax(1)
    state = State(
        rotations=frames.rotations.clone(),
        centres=frames.centres.clone(),
        focals=focals,
        focal_limits=torch.stack(
            [(side * FOCAL_RANGE[0]).minimum(focals), (side * FOCAL_RANGE[1]).maximum(focals)], 1
        ),
        aspects=presets.aspects,
        principal_points=presets.principal_points,
        pair_scales=frames.units[first] / edges.units,
        pair_rotations=frames.rotations[first],
        pair_translations=frames.centres[first],
    )
    return place_at_known(state, presets, first)


def _confident_pairs(
    predictions: PairPredictions, obs: Observations, min_confidence: float
) -> list[int]:
    """Indices of the pairs that count; refuses images left without and separate groups."""
    mean = _pair_confidences(obs)
    # A map whose points all lie at one place says nothing, however confident.
    extent = obs.points.var(2).sum(1) > 1e-12 * obs.typical
    kept = ((mean >= min_confidence) & extent.reshape(-1, 2).all(1)).nonzero()[:, 0].tolist()
    names = predictions.names or []
    seen = {index for e in kept for index in predictions.pairs[e]}
    lost = [name for index, name in enumerate(names) if index not in seen]
    if lost:
        raise ValueError(
            f"No confident pair shows images [{', '.join(lost)}]: they overlap with no other, "
            f"confidences are below min_confidence={min_confidence}, or all points lie at one "
            "place. Leave them out, add photographs between them and the others, or lower the "
            "limit (min_confidence= of align, --min-pair-confidence); 1 takes all pairs."
        )
    pairs = [predictions.pairs[e] for e in kept]
    check_connected(predictions.image_count, pairs, names, "graph of confident pairs")
    return kept


def _assemble(
    predictions: PairPredictions, presets: Presets, state: State, maps: list[DenseMaps]
) -> Scene:
    cameras = []
    for n, (width, height) in enumerate(presets.sizes):
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = state.rotations[n], state.centres[n]
        if n in presets.fixed_poses:
            pose = presets.cameras[n].cam2world
        intrinsics = presets.intrinsics(state, n)
        cameras.append(Camera(intrinsics.float(), pose.float(), width, height))
    paths = predictions.paths
    return Scene(
        cameras=cameras,
        pointmaps=[m.points for m in maps],
        depthmaps=[m.depth for m in maps],
        confidences=[m.confidence for m in maps],
        images=list(predictions.images) if predictions.images is not None else [],
        names=list(predictions.names or []),
        pixel_to_original=[matrix.float() for matrix in presets.to_original],
        paths=list(paths) if paths is not None else [],
    )


def _rescale_by_pixels(scene: Scene, known: Any, presets: Presets) -> Scene:
    """Scale the scene so that two seen points are as far apart as they are known to be."""
    first, second, metres = known
    apart = float((_seen_point(scene, *first) - _seen_point(scene, *second)).norm())
    if not apart > 0:
        raise ValueError(f"known_distance {known} is between a point and itself.")
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] *= metres / apart
    for n in presets.posed:
        matrix[:3, 3] = (1 - metres / apart) * scene.cameras[n].center
    return scene.transformed(matrix)


def _seen_point(scene: Scene, image: int, u: float, v: float) -> Tensor:
    """The world point at an original pixel."""
    pixel = torch.tensor([u, v, 1.0])
    column, row, _ = torch.linalg.solve(scene.pixel_to_original[image], pixel).round().tolist()
    height, width = scene.depthmaps[image].shape
    if not (0 <= column < width and 0 <= row < height):
        raise ValueError(f"known_distance: pixel ({u}, {v}) was not seen in image {image}.")
    return scene.pointmaps[image][int(row), int(column)]
