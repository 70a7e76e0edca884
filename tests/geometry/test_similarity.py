import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from croco3d.geometry import (
    Similarity,
    estimate_scale,
    fit_similarity,
    masked_median,
    pose_from_parts,
    robust_centre_scale,
    weighted_median,
)


def problem(count=40, seed=0, batch=(3,)):
    rng = np.random.default_rng(seed)
    turns = Rotation.random(int(np.prod(batch)), random_state=seed).as_matrix()
    truth = Similarity(
        torch.from_numpy(rng.uniform(0.3, 3, batch)),
        torch.from_numpy(turns.reshape(*batch, 3, 3)),
        torch.from_numpy(rng.normal(size=(*batch, 3))),
    )
    source = torch.from_numpy(rng.normal(size=(*batch, count, 3)))
    return truth, source, truth.apply(source)


def assert_same(fit, truth, tolerance=1e-6):
    for name in ("scale", "rotation", "translation"):
        torch.testing.assert_close(
            getattr(fit, name), getattr(truth, name), atol=tolerance, rtol=tolerance
        )


def test_exact_similarity_is_found_in_a_batch():
    truth, source, target = problem(batch=(2, 3))
    assert_same(fit_similarity(source, target), truth)


def test_three_points_determine_a_proper_rotation():
    truth, source, target = problem(count=3)
    fit = fit_similarity(source, target)
    assert_same(fit, truth, 1e-5)
    torch.testing.assert_close(torch.linalg.det(fit.rotation), torch.ones_like(fit.scale))


def test_mirrored_points_give_a_rotation_and_not_a_reflection():
    _, source, _ = problem()
    mirrored = source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    fit = fit_similarity(source, mirrored)
    torch.testing.assert_close(torch.linalg.det(fit.rotation), torch.ones_like(fit.scale))


def test_weighted_rotation_agrees_with_scipy():
    rng = np.random.default_rng(5)
    source, weights = rng.normal(size=(30, 3)), rng.uniform(0, 1, 30)
    target = Rotation.random(random_state=5).apply(source) + 0.3 * rng.normal(size=(30, 3))
    mean = [(weights[:, None] * x).sum(0) / weights.sum() for x in (source, target)]
    expected, _ = Rotation.align_vectors(target - mean[1], source - mean[0], weights=weights)
    fit = fit_similarity(
        *(torch.from_numpy(x) for x in (source, target, weights)), with_scale=False
    )
    np.testing.assert_allclose(fit.rotation.numpy(), expected.as_matrix(), atol=1e-7)
    assert fit.scale.item() == 1.0


def test_no_other_similarity_has_a_smaller_weighted_error():
    rng = np.random.default_rng(6)
    _, source, target = problem(batch=())
    target = target + 0.3 * torch.from_numpy(rng.normal(size=target.shape))
    weights = torch.from_numpy(rng.uniform(0, 1, len(source)))
    fit = fit_similarity(source, target, weights)

    def cost(candidate):
        return (weights * (candidate.apply(source) - target).square().sum(-1)).sum()

    for _ in range(20):
        turn = torch.from_numpy(Rotation.from_rotvec(rng.normal(size=3) * 0.01).as_matrix())
        shift = torch.from_numpy(rng.normal(size=3) * 0.01)
        other = Similarity(
            fit.scale * (1 + 0.01 * rng.normal()), turn @ fit.rotation, fit.translation + shift
        )
        assert cost(fit) < cost(other)


def test_weight_zero_hides_even_nonsense():
    truth, source, target = problem()
    weights = torch.ones_like(source[..., 0])
    weights[:, :5] = 0
    target[:, :5] = torch.nan
    assert_same(fit_similarity(source, target, weights), truth)


def test_robust_fit_withstands_gross_outliers():
    truth, source, target = problem(count=100)
    spoiled = target.clone()
    spoiled[:, :25] += 5 + torch.rand(3, 25, 3, generator=torch.Generator().manual_seed(0))
    plain = fit_similarity(source, spoiled)
    robust = fit_similarity(source, spoiled, robust=True)
    assert_same(robust, truth, 0.02)
    assert (plain.translation - truth.translation).norm(dim=-1).min() > 0.5


def test_undetermined_problems_are_nan_and_leave_others_alone():
    truth, source, target = problem()
    weights = torch.ones_like(source[..., 0])
    weights[1, 2:] = 0
    fit = fit_similarity(source, target, weights)
    assert fit.rotation[1].isnan().all()
    assert fit.scale[[0, 2]].tolist() == pytest.approx(truth.scale[[0, 2]].tolist())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="source and target"):
        fit_similarity(torch.zeros(4, 3), torch.zeros(5, 3))


def test_composition_inverse_and_matrix_agree():
    first, points, _ = problem(seed=1)
    second, _, _ = problem(seed=2)
    torch.testing.assert_close(
        second.compose(first).apply(points), second.apply(first.apply(points))
    )
    torch.testing.assert_close(second.compose(first).matrix(), second.matrix() @ first.matrix())
    torch.testing.assert_close(first.inverse().apply(first.apply(points)), points)


def test_poses_move_with_their_points():
    truth, points, _ = problem()
    turns = torch.from_numpy(Rotation.random(3, random_state=9).as_matrix())
    poses = pose_from_parts(turns, torch.ones(3, 3, dtype=torch.float64))
    seen_before = torch.linalg.inv(poses) @ torch.cat((points, torch.ones(3, 40, 1)), -1).mT
    moved = truth.apply_to_poses(poses)
    points = torch.cat((truth.apply(points), torch.ones(3, 40, 1)), -1)
    seen_after = torch.linalg.inv(moved) @ points.mT
    torch.testing.assert_close(seen_after[:, :3], truth.scale[:, None, None] * seen_before[:, :3])


def test_medians_agree_with_numpy_and_repetition():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(4, 9)), np.zeros((4, 9), dtype=bool)
    mask[:3, [0, 2, 3, 7, 8]] = True
    found = masked_median(torch.from_numpy(values), torch.from_numpy(mask))
    np.testing.assert_allclose(found[:3].numpy(), np.median(values[:3, [0, 2, 3, 7, 8]], axis=1))
    assert found[3].isnan()
    counts = rng.integers(0, 4, 9)
    expected = np.sort(np.repeat(values[0], counts))
    weighted = weighted_median(torch.from_numpy(values[0]), torch.from_numpy(counts * 1.0))
    assert weighted.item() == expected[(len(expected) - 1) // 2]


def test_equal_weights_leave_the_median_as_it_is():
    values = torch.randn(5, 31, generator=torch.Generator().manual_seed(0))
    values[0, 3] = torch.nan
    torch.testing.assert_close(
        weighted_median(values, torch.ones_like(values)), values.nanmedian(-1).values
    )


@pytest.mark.parametrize("method", ["median", "weiszfeld"])
def test_robust_scale_withstands_outliers(method):
    source = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) + 1
    target = 1.7 * source
    target[:40] *= -5
    assert estimate_scale(source, target, method=method).item() == pytest.approx(1.7, abs=1e-3)
    with pytest.raises(ValueError, match="'mean'"):
        estimate_scale(source, target, method="mean")


def test_robust_spread_ignores_masked_points():
    points = torch.randn(31, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(31) < 21
    found = robust_centre_scale(points, mask)
    centre = np.median(points[:21].numpy(), axis=0)
    np.testing.assert_allclose(found.centre.numpy(), centre)
    distance = np.linalg.norm(points[:21].numpy() - centre, axis=1)
    assert found.scale.item() == pytest.approx(np.median(distance))
