from dataclasses import replace

import pytest
import torch

from croco3d.scene import KnownCamera, PairPredictions, align
from croco3d.scene.alignment import Errors, pose_errors, simulate_room

SIZE = (36, 48)
EXACT = Errors(independent=0.0)


def room(count=4, errors=EXACT, **options):
    return simulate_room(count, SIZE, errors=errors, **options)


def assert_exact(scene, truth, degrees=0.01, percent=0.01):
    errors = truth.errors(scene)
    assert errors.rotation_max < degrees and errors.translation_max < 3 * degrees
    assert errors.focal_mean < percent
    unit = truth.depthmaps[0].mean() / scene.depthmaps[0].mean()
    for depth, true in zip(scene.depthmaps, truth.depthmaps, strict=True):
        torch.testing.assert_close(unit * depth, true, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"count": 4},
        {"count": 6, "graph": "swin-1-noncyclic", "sweep": 3.0},
        {"count": 4, "focal": (0.7, 1.6)},
        {"count": 2, "sweep": 0.5},
    ],
)
def test_exact_predictions_come_back_exact(options):
    truth = room(**options)
    assert_exact(align(truth.predictions), truth)


def test_world_points_are_those_of_depth_and_camera():
    scene = align(room(3).predictions)
    for n, camera in enumerate(scene.cameras):
        pixels, depths = camera.project(scene.pointmaps[n])
        torch.testing.assert_close(depths, scene.depthmaps[n], rtol=1e-4, atol=1e-4)
        assert (pixels[5, 7] - torch.tensor([7.0, 5.0])).abs().max() < 1e-2
    assert torch.allclose(scene.cameras[0].cam2world, torch.eye(4), atol=1e-5)


def test_noise_averages_out():
    truth = room(5, Errors(independent=0.02))
    errors = truth.errors(align(truth.predictions))
    # one pixel's noise is 1.1 degrees; 1728 pixels of 8 views a camera are averaged
    assert errors.rotation_mean < 0.12 and errors.focal_mean < 0.2


def test_guessed_distances_count_less_than_directions(monkeypatch):
    guessing = Errors(independent=0.005, distances=0.15)
    rooms = [room(4, guessing, seed=seed, sweep=1.0) for seed in range(3)]
    found = [truth.errors(align(truth.predictions)).rotation_mean for truth in rooms]
    monkeypatch.setattr("croco3d.scene.alignment.refine.share_along", lambda *_: 1.0)
    alike = [truth.errors(align(truth.predictions)).rotation_mean for truth in rooms]
    assert sum(found) < 0.2 * sum(alike)


@pytest.mark.parametrize("share", [0.2, 0.35])
def test_wrong_pairs_lose_their_say(share):
    clean = Errors(independent=0.005, correlated=0.01)
    wrong = replace(clean, outlier_pairs=share)
    good, bad = room(6, clean, seed=1), room(6, wrong, seed=1)
    assert bad.outliers
    errors = bad.errors(align(bad.predictions))
    assert errors.rotation_max < 3 * good.errors(align(good.predictions)).rotation_max + 1


def test_images_that_are_never_first_are_resected():
    truth = room(4, sweep=1.0)
    forward = [e for e, (i, j) in enumerate(truth.predictions.pairs) if i < j]
    assert_exact(align(truth.predictions.select(forward)), truth, degrees=0.05, percent=0.1)


def test_mixed_sizes_and_original_pixels():
    truth = room(3)
    cut = 8  # the last image loses columns on the right, so its centre moves
    lists: dict[str, list] = {}
    for name in ("pointmaps1", "pointmaps2", "confidences1", "confidences2"):
        cut_view = [pair[int(name[-1]) - 1] == 2 for pair in truth.predictions.pairs]
        maps = getattr(truth.predictions, name)
        lists[name] = [m[:, :-cut] if c else m for m, c in zip(maps, cut_view, strict=True)]
    scale = torch.tensor([[4.0, 0, 1.5], [0, 4.0, 1.5]])
    predictions = PairPredictions(
        truth.predictions.pairs,
        **lists,
        original_sizes=[(192, 144), (192, 144), (160, 144)],
        pixel_to_original=[scale] * 3,
    )
    known = {2: KnownCamera(principal_point=(4 * 24 + 1.5, 4 * 18 + 1.5))}
    scene = align(predictions, cameras=known)
    assert pose_errors(scene, truth.cam2world, 4 * truth.focals).focal_mean < 0.01
    assert scene.cameras[2].width == 160 and scene.depthmaps[2].shape == (36, 40)
    torch.testing.assert_close(
        scene.network_intrinsics(2)[:2, 2], torch.tensor([24.0, 18.0]), atol=1e-3, rtol=0
    )


def test_pair_is_closed_form():
    truth = room(2, sweep=0.5)
    assert_exact(align(truth.predictions, method="pair"), truth)


def test_plain_solver_improves_on_its_start():
    truth = room(3, Errors(independent=0.01))
    plain = truth.errors(align(truth.predictions, method="adam"))
    assert plain.rotation_mean < 0.2 and plain.focal_mean < 0.3
    best = truth.errors(align(truth.predictions))
    assert best.rotation_mean < 1.5 * plain.rotation_mean


def test_deterministic_and_independent_of_storage():
    truth = room(3, Errors(independent=0.01))
    given = truth.predictions
    first, again = align(given, seed=3), align(given, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.pointmaps, again.pointmaps, strict=True))
    half = replace(given, pointmaps1=given.pointmaps1.half(), pointmaps2=given.pointmaps2.half())
    assert truth.errors(align(half)).rotation_max < 0.2


def test_as_many_threads_as_torch_has_share_the_pixels_and_change_nothing():
    truth, before = room(3, Errors(independent=0.01)), torch.get_num_threads()
    scenes = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            scenes.append(align(truth.predictions))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    one, three = scenes
    assert all(torch.equal(a, b) for a, b in zip(one.pointmaps, three.pointmaps, strict=True))


def test_low_confidence_pairs_are_left_out():
    truth = room(4)
    given = truth.predictions
    doubtful = given.pairs.index((0, 3))
    points = given.pointmaps2.clone()
    points[doubtful] = points[doubtful].flip(0)
    confidences = given.confidences2.clone()
    confidences[doubtful] = 1.0
    changed = replace(given, pointmaps2=points, confidences2=confidences)
    scene = align(changed)
    assert scene.info["pairs"] == len(given) - 1
    assert_exact(scene, truth)


def with_confidences(given, change):
    return replace(
        given, confidences1=change(given.confidences1), confidences2=change(given.confidences2)
    )


@pytest.mark.parametrize("change", [lambda c: 1 + 1e-3 * (c - 1), lambda c: 0.02 * c])
def test_low_confidences_are_compared_with_each_other(change, caplog):
    truth = room(4, Errors(independent=0.01, outlier_pairs=0.2))
    low = with_confidences(truth.predictions, change)
    scene = align(low)
    assert scene.info["relative_confidences"]
    assert "No pair is confident" in caplog.text
    usual = truth.errors(align(truth.predictions))
    assert truth.errors(scene).rotation_max < 1.5 * usual.rotation_max + 0.05
    assert not align(truth.predictions).info["relative_confidences"]


def test_confidences_that_say_nothing_count_alike():
    truth = room(3)
    assert_exact(align(with_confidences(truth.predictions, torch.ones_like)), truth)


def test_a_limit_that_is_given_is_kept():
    low = with_confidences(room(3).predictions, lambda c: 1 + 1e-3 * (c - 1))
    with pytest.raises(ValueError, match=r"min_confidence=1\.05.*--min-pair-confidence"):
        align(low, min_confidence=1.05)
    truth = room(3)
    assert_exact(align(low, min_confidence=1.0), truth)


def test_focals_stay_those_of_cameras():
    given = room(3).predictions
    flat = [torch.as_tensor(maps).clone() for maps in (given.pointmaps1, given.pointmaps2)]
    noise = torch.Generator().manual_seed(0)
    for maps in flat:  # parallel rays, as if seen from infinitely far
        maps[..., :2] = 1e-4 * torch.randn(maps[..., :2].shape, generator=noise)
    scene = align(replace(given, pointmaps1=flat[0], pointmaps2=flat[1]))
    focals = torch.stack([camera.intrinsics[0, 0] for camera in scene.cameras])
    assert (focals <= 10 * SIZE[1]).all() and (focals > 0).all()


def test_refuses_what_cannot_be_aligned():
    given = room(4).predictions
    with pytest.raises(ValueError, match="Choose None, 'adam' or 'pair'"):
        align(given, method="lbfgs")
    with pytest.raises(ValueError, match="exactly two"):
        align(given, method="pair")
    apart = [e for e, pair in enumerate(given.pairs) if set(pair) in ({0, 1}, {2, 3})]
    with pytest.raises(ValueError, match=r"not connected.*\[0, 1\]; \[2, 3\]"):
        align(given.select(apart))
    weak = [1.0 if 2 in pair else 3.0 for pair in given.pairs]
    low = torch.tensor(weak)[:, None, None].expand(-1, *SIZE)
    with pytest.raises(ValueError, match="all points lie at one place"):
        align(replace(given, pointmaps2=torch.ones_like(torch.as_tensor(given.pointmaps2))))
    named = replace(given, confidences1=low, confidences2=low, names=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"No confident pair shows images \[c\]"):
        align(named)
