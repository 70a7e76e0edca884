"""Poses from pairs in both orders, on exact and on wrong pointmaps."""

import pytest
import torch

from croco3d.geometry import (
    depth_to_pointmap,
    intrinsics_matrix,
    invert_pose,
    pose_from_both_orders,
    pose_from_pointmaps,
    rotation_angle,
    transform_points,
    translation_angle,
)

HEIGHT, WIDTH = 24, 32
CAMERA = intrinsics_matrix(torch.tensor(30.0), torch.tensor([15.5, 11.5]))
TURN = torch.linalg.matrix_exp(
    torch.tensor([[0.0, -0.05, 0.2], [0.05, 0.0, -0.1], [-0.2, 0.1, 0.0]])
)


def camera2(shift=(0.4, -0.1, 0.2)):
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = TURN, torch.tensor(shift)
    return pose


def exact_maps(pose, seed=0):
    generator = torch.Generator().manual_seed(seed)
    depth = 1.5 + 4 * torch.rand(2, HEIGHT, WIDTH, generator=generator)
    own1, own2 = depth_to_pointmap(depth, CAMERA)
    return own1, transform_points(pose, own2), own2, transform_points(invert_pose(pose), own1)


def sloped(points, slope):
    """The same rays, with ranges that grow from left to right."""
    return points * torch.linspace(1 - slope, 1 + slope, WIDTH)[None, :, None]


def test_exact_pointmaps_give_the_pose_in_the_first_order_s_unit():
    pose = camera2()
    own1, seen2, own2, seen1 = exact_maps(pose)
    fit = pose_from_both_orders(own1, seen2, 3 * own2, 3 * seen1, stride=1)
    torch.testing.assert_close(fit.pose(), pose, atol=1e-4, rtol=0)
    assert fit.scale.item() == pytest.approx(1 / 3, rel=1e-4)


def test_a_wrong_slope_of_depth_does_not_turn_the_camera():
    pose = camera2()
    own1, seen2, own2, seen1 = exact_maps(pose)
    seen1, seen2 = sloped(seen1, -0.3), sloped(seen2, 0.3)
    fit = pose_from_both_orders(own1, seen2, own2, seen1)
    turned = rotation_angle(fit.rotation, pose[:3, :3])
    procrustes = rotation_angle(pose_from_pointmaps(own2, seen2).rotation, pose[:3, :3])
    assert procrustes > 5
    assert turned < procrustes / 2


def test_noise_of_ranges_leaves_the_directions():
    pose = camera2()
    generator = torch.Generator().manual_seed(1)
    maps = [m * (0.1 * torch.randn(HEIGHT, WIDTH, 1, generator=generator)).exp()
            for m in exact_maps(pose)]  # fmt: skip
    fit = pose_from_both_orders(*maps)
    assert rotation_angle(fit.rotation, pose[:3, :3]) < 1.5
    assert translation_angle(fit.translation, pose[:3, 3]) < 15


def test_outliers_and_pixels_without_weight_do_little_harm():
    pose = camera2()
    own1, seen2, own2, seen1 = exact_maps(pose)
    seen2[:6] += 1.5
    fit = pose_from_both_orders(own1, seen2, own2, seen1, stride=1)
    assert rotation_angle(fit.rotation, pose[:3, :3]) < 0.5
    seen2[:6] = torch.nan
    weights = torch.ones(HEIGHT, WIDTH)
    weights[:6] = 0
    fit = pose_from_both_orders(own1, seen2, own2, seen1, None, weights, stride=1)
    torch.testing.assert_close(fit.pose(), pose, atol=1e-4, rtol=0)


def test_batches_are_solved_one_by_one_and_failures_stay_alone():
    poses = torch.stack([camera2(), camera2((0.0, 0.3, 0.0)), camera2()])
    maps = [exact_maps(pose, seed) for seed, pose in enumerate(poses)]
    own1, seen2, own2, seen1 = map(torch.stack, zip(*maps, strict=True))
    weights = torch.ones(3, HEIGHT, WIDTH)
    weights[2] = 0
    fit = pose_from_both_orders(own1, seen2, own2, seen1, weights, weights)
    torch.testing.assert_close(fit.pose()[:2], poses[:2], atol=1e-4, rtol=0)
    assert fit.pose()[2, :3].isnan().all()


def test_shapes_that_do_not_fit_are_refused():
    own1, seen2, own2, seen1 = exact_maps(camera2())
    with pytest.raises(ValueError, match="pointmaps must both be"):
        pose_from_both_orders(own1, seen2[:-1], own2, seen1)
    with pytest.raises(ValueError, match="weights must be"):
        pose_from_both_orders(own1, seen2, own2, seen1, torch.ones(3))
