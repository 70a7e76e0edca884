import doctest
import importlib

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from croco3d.evaluation import (
    cloud_error,
    depth_error,
    focal_error,
    normal_error,
    pointmap_error,
    pose_accuracy,
    pose_error,
    summarise,
)
from croco3d.geometry import pose_from_parts
from croco3d.losses import PointmapLoss, StereoTarget

SHAPE = (3, 6, 8)


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    true = [2 + torch.randn(*SHAPE, 3, generator=generator) for _ in range(2)]
    predicted = [t + 0.2 * torch.randn(t.shape, generator=generator) for t in true]
    valid = [torch.rand(SHAPE, generator=generator) < 0.7 for _ in range(2)]
    return predicted, true, valid


def error_of(predicted, true, valid, **options):
    return pointmap_error(*predicted, *true, *valid, **options)


@pytest.mark.parametrize("name", ["cameras", "clouds", "pointmaps"])
def test_documented_examples_hold(name):
    module = importlib.import_module(f"croco3d.evaluation.{name}")
    failed, attempted = doctest.testmod(module)
    assert failed == 0 < attempted


def test_default_pointmap_error_is_that_of_training(maps):
    predicted, true, valid = maps
    errors = error_of(predicted, true, valid)
    for pair in range(3):
        target = StereoTarget(
            *(t[pair, None] for t in true), torch.eye(4)[None], *(v[pair, None] for v in valid)
        )
        outputs = type("Outputs", (), {})()
        outputs.pointmap1, outputs.pointmap2 = (p[pair, None] for p in predicted)
        loss = PointmapLoss()(outputs, target)
        assert errors.mean[pair].item() == pytest.approx(loss.total.item() / 2, rel=1e-5)
        assert errors.view2[pair].item() == pytest.approx(loss.parts["pointmap2"].item(), rel=1e-5)


def test_alignments_remove_what_they_promise(maps):
    predicted, true, valid = maps
    turn = torch.from_numpy(Rotation.from_euler("xyz", [20, 30, 5], degrees=True).as_matrix())
    moved = [0.3 * t @ turn.float().T + 1.0 for t in true]
    scaled = [0.3 * t for t in true]
    for alignment in ("norm", "scale", "similarity"):
        assert error_of(scaled, true, valid, alignment=alignment).mean.max() < 1e-5
    assert error_of(moved, true, valid, alignment="similarity").mean.max() < 1e-4
    assert error_of(moved, true, valid, alignment="scale").mean.min() > 0.1
    by_scale = error_of(predicted, true, valid, alignment="scale").mean
    by_similarity = error_of(predicted, true, valid, alignment="similarity").mean
    assert (by_similarity <= by_scale + 1e-3).all()


def test_unit_is_the_mean_distance_of_the_truth(maps):
    predicted, true, valid = maps
    first = error_of(predicted, true, valid, alignment="scale").mean
    again = error_of(predicted, [5 * t for t in true], valid, alignment="scale").mean
    torch.testing.assert_close(first, again)


def test_invalid_pixels_do_not_count_and_empty_views_are_nan(maps):
    predicted, true, valid = maps
    before = error_of(predicted, true, valid)
    true[0][~valid[0]] = torch.nan
    predicted[1][~valid[1]] = torch.inf
    for name in ("mean", "view1", "view2"):
        torch.testing.assert_close(
            getattr(error_of(predicted, true, valid), name), getattr(before, name)
        )
    valid[0][1] = False
    partly = error_of(predicted, true, valid)
    assert partly.view1.isnan().tolist() == [False, True, False]
    with pytest.raises(ValueError, match="'affine'"):
        error_of(predicted, true, valid, alignment="affine")


def test_depth_errors_after_each_alignment():
    generator = torch.Generator().manual_seed(0)
    true = 1 + 4 * torch.rand(2, 5, 7, generator=generator)
    valid = torch.rand(2, 5, 7, generator=generator) < 0.8
    predicted = 0.4 * true + 0.3 + 0.1 * torch.randn(true.shape, generator=generator)
    for pair in range(2):
        d, g = predicted[pair][valid[pair]].numpy(), true[pair][valid[pair]].numpy()
        low = [np.sort(x)[(len(x) - 1) // 2] for x in (d, g)]
        slope, offset = np.linalg.lstsq(np.stack((d, np.ones_like(d)), 1), g, rcond=None)[0]
        aligned = {
            "none": d,
            "median_scale": d * low[1] / low[0],
            "scale_shift": slope * d + offset,
        }
        for alignment, expected in aligned.items():
            error = depth_error(predicted, true, valid, alignment)
            abs_rel = np.mean(np.abs(expected - g) / g)
            delta = np.mean(np.maximum(expected / g, g / expected) < 1.25)
            assert error.abs_rel[pair].item() == pytest.approx(abs_rel, rel=1e-4)
            assert error.delta[pair].item() == pytest.approx(delta, rel=1e-4)
    assert depth_error(-true, true, valid, "none").delta.tolist() == [0, 0]
    assert depth_error(true, true, valid & False).abs_rel.isnan().all()


def test_normal_error_is_the_angle_between_planes():
    v, u = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    flat = torch.stack((u, v, torch.full_like(u, 5.0)), dim=-1)
    turn = torch.from_numpy(Rotation.from_euler("y", 20, degrees=True).as_matrix()).float()
    everywhere = torch.ones(6, 8, dtype=torch.bool)
    error = normal_error(7 * flat @ turn.T, flat, everywhere)
    assert error.degrees.item() == pytest.approx(20.0, abs=1e-3)
    assert error.within.item() == 0
    assert normal_error(flat @ turn.T, flat @ turn.T, everywhere).within.item() == 1
    assert normal_error(flat, flat, everywhere & False).degrees.isnan()


def test_cloud_error_agrees_with_all_distances():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 3)), rng.normal(size=(60, 3))
    distance = cdist(first, second)
    error = cloud_error(torch.from_numpy(first), torch.from_numpy(second), threshold=0.5)
    precision, recall = (distance.min(1) < 0.5).mean(), (distance.min(0) < 0.5).mean()
    assert error.accuracy == pytest.approx(distance.min(1).mean())
    assert error.completeness == pytest.approx(distance.min(0).mean())
    assert error.chamfer == pytest.approx((error.accuracy + error.completeness) / 2)
    assert error.f_score == pytest.approx(2 * precision * recall / (precision + recall))
    far = cloud_error(torch.from_numpy(first) + 100, torch.from_numpy(second), threshold=0.5)
    assert far.f_score == 0
    empty = cloud_error(torch.zeros(0, 3), torch.from_numpy(second), threshold=0.5)
    assert empty.chamfer != empty.chamfer
    with pytest.raises(ValueError, match="threshold"):
        cloud_error(torch.zeros(1, 3), torch.zeros(1, 3), threshold=0.0)


def test_pose_errors_ignore_the_length_of_translation_only():
    turn = Rotation.from_euler("z", 12, degrees=True).as_matrix()
    true = pose_from_parts(torch.eye(3), torch.tensor([1.0, 0.0, 0.0]))
    predicted = pose_from_parts(torch.from_numpy(turn).float(), torch.tensor([5.0, 5.0, 0.0]))
    error = pose_error(predicted, true)
    assert error.rotation.item() == pytest.approx(12.0, abs=1e-3)
    assert error.translation.item() == pytest.approx(45.0, abs=1e-3)
    opposite = pose_from_parts(torch.eye(3), torch.tensor([-1.0, 0.0, 0.0]))
    assert pose_error(opposite, true).translation.item() == pytest.approx(180.0)
    lost = pose_error(torch.full((4, 4), torch.nan), true)
    assert (lost.rotation.item(), lost.translation.item()) == (180.0, 180.0)
    assert pose_error(predicted, torch.eye(4)).translation.isnan()


def test_pose_accuracy_counts_pairs_under_each_limit():
    rotation = torch.tensor([1.0, 10.0, 4.0, 60.0])
    translation = torch.tensor([2.0, 4.0, 20.5, torch.nan])
    accuracy = pose_accuracy(rotation, translation)
    assert (accuracy.rra_5, accuracy.rra_15) == (0.5, 0.75)
    assert accuracy.rta_5 == pytest.approx(2 / 3)
    assert accuracy.rta_15 == pytest.approx(2 / 3)
    larger = np.array([2.0, 10.0, 20.5])
    expected = np.mean([(larger < limit).mean() for limit in range(1, 31)])
    assert accuracy.maa_30 == pytest.approx(expected)


def test_summaries_skip_what_a_method_does_not_tell():
    pairs = [
        {"pointmap": 0.2, "rotation": 3.0, "translation": 10.0},
        {"rotation": 180.0, "translation": 180.0},
        {"pointmap": 0.4, "rotation": 7.0},
        {"pointmap": 6.0},
    ]
    summary = summarise(pairs)
    assert summary["pointmap"] == pytest.approx(2.2)
    assert summary["pointmap_median"] == pytest.approx(0.4)
    assert summary["rra_5"] == pytest.approx(1 / 3)
    assert summary["rta_15"] == 0.5
    assert summary["rotation_median"] == 7.0
    assert "focal" not in summary
    assert focal_error(torch.tensor(90.0), torch.tensor(100.0)).item() == pytest.approx(0.1)
