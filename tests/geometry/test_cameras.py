import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from croco3d.geometry import (
    compose_poses,
    crop_intrinsics,
    depth_to_pointmap,
    focal_from_fov,
    fov_from_focal,
    intrinsics_matrix,
    invert_pose,
    pixel_grid,
    pointmap_to_depth,
    pose_from_parts,
    project,
    relative_pose,
    resize_intrinsics,
    rotation_angle,
    transform_points,
    translation_angle,
    unproject,
)

CAMERA = intrinsics_matrix(
    torch.tensor([52.0, 48.0], dtype=torch.float64),
    torch.tensor([19.2, 13.7], dtype=torch.float64),
)


def random_poses(count, seed=0):
    turns = Rotation.random(count, random_state=seed).as_matrix()
    shifts = np.random.default_rng(seed).normal(size=(count, 3))
    return pose_from_parts(torch.from_numpy(turns), torch.from_numpy(shifts))


def test_projection_agrees_with_opencv():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(50, 3, generator=generator, dtype=torch.float64) * 4 - 2
    pose = random_poses(1)[0]
    points = transform_points(pose, points + torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64))
    world2cam = invert_pose(pose).numpy()
    expected, _ = cv2.projectPoints(
        points.numpy(), cv2.Rodrigues(world2cam[:3, :3])[0], world2cam[:3, 3], CAMERA.numpy(), None
    )
    np.testing.assert_allclose(project(points, CAMERA, pose).numpy(), expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
def test_every_pixel_of_a_depth_map_projects_back_onto_itself(transposed):
    generator = torch.Generator().manual_seed(1)
    depth = 1 + torch.rand(2, 3, 20, 30, generator=generator, dtype=torch.float64)
    poses = random_poses(6).view(2, 3, 4, 4)
    camera = CAMERA[[1, 0, 2]] if transposed else CAMERA
    cameras = camera.expand(2, 3, 3, 3)
    points = depth_to_pointmap(depth, cameras, poses)
    grid = pixel_grid(20, 30, dtype=torch.float64).expand(2, 3, 20, 30, 2)
    torch.testing.assert_close(project(points, cameras, poses), grid)
    torch.testing.assert_close(pointmap_to_depth(points, poses), depth)


def test_transposed_camera_sees_the_transposed_pointmap():
    depth = 1 + torch.rand(20, 30, dtype=torch.float64)
    lying = depth_to_pointmap(depth.T, CAMERA[[1, 0, 2]])
    torch.testing.assert_close(lying, depth_to_pointmap(depth, CAMERA).transpose(0, 1))


def test_unproject_inverts_a_skewed_camera():
    camera = CAMERA.clone()
    camera[0, 1] = 3.0
    points = torch.rand(7, 3, dtype=torch.float64) + 1
    again = unproject(project(points, camera), points[:, 2], camera)
    torch.testing.assert_close(again, points)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_resized_intrinsics_follow_the_pixels_of_a_resized_image(scale):
    """A ramp in u survives box filtering exactly, so its values say where a pixel came from."""
    size = 64
    ramp = Image.fromarray(np.tile(np.arange(size, dtype=np.float32), (size, 1)))
    small = np.asarray(ramp.resize((int(size * scale),) * 2, Image.Resampling.BOX))
    camera = intrinsics_matrix(torch.tensor(50.0), torch.tensor([30.0, 20.0]))
    resized = resize_intrinsics(camera, scale)
    column = 5
    ray_before = (small[0, column] - camera[0, 2]) / camera[0, 0]
    ray_after = (column - resized[0, 2]) / resized[0, 0]
    assert ray_after.item() == pytest.approx(ray_before.item(), abs=1e-6)


def test_unequal_factors_scale_rows_and_columns_apart():
    resized = resize_intrinsics(CAMERA, (2.0, 0.5))
    expected = [104.0, 24.0, (19.2 + 0.5) * 2 - 0.5, (13.7 + 0.5) * 0.5 - 0.5]
    found = [resized[0, 0], resized[1, 1], resized[0, 2], resized[1, 2]]
    assert [x.item() for x in found] == pytest.approx(expected)


def test_cropping_shifts_pixels_by_the_cut():
    point = torch.tensor([[0.3, -0.2, 2.0]], dtype=torch.float64)
    moved = project(point, crop_intrinsics(CAMERA, 5, -3)) - project(point, CAMERA)
    assert moved[0].tolist() == pytest.approx([-5.0, 3.0])


def test_angle_of_view_and_focal_are_inverse():
    assert fov_from_focal(focal_from_fov(63.0, 512), 512) == pytest.approx(63.0)
    with pytest.raises(ValueError, match="180"):
        focal_from_fov(180.0, 512)
    with pytest.raises(ValueError, match="-3"):
        fov_from_focal(-3.0, 512)
    with pytest.raises(ValueError, match="positive"):
        resize_intrinsics(CAMERA, 0.0)


def test_poses_invert_and_compose_as_matrices():
    first, second = random_poses(4, seed=1), random_poses(4, seed=2)
    torch.testing.assert_close(invert_pose(first), torch.linalg.inv(first))
    torch.testing.assert_close(compose_poses(first, second), first @ second)
    torch.testing.assert_close(relative_pose(first, second), torch.linalg.inv(first) @ second)


def test_transforms_match_leading_dimensions():
    poses, points = random_poses(2), torch.rand(2, 5, 7, 3, dtype=torch.float64)
    moved = transform_points(poses, points)
    expected = points[1, 3, 2] @ poses[1, :3, :3].T + poses[1, :3, 3]
    torch.testing.assert_close(moved[1, 3, 2], expected)
    with pytest.raises(ValueError, match="leading"):
        transform_points(poses, points[0, 0, 0])


@pytest.mark.parametrize("degrees", [1e-5, 1.0, 90.0, 179.9])
def test_rotation_angles_agree_with_scipy(degrees):
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    base = Rotation.random(random_state=3)
    turned = base * Rotation.from_rotvec(np.radians(degrees) * axis)
    angle = rotation_angle(*(torch.from_numpy(r.as_matrix()) for r in (base, turned)))
    assert angle.item() == pytest.approx(degrees, rel=1e-6)


def test_small_rotations_stay_accurate_in_single_precision():
    turn = Rotation.from_euler("y", 0.02, degrees=True).as_matrix()
    angle = rotation_angle(torch.eye(3), torch.from_numpy(turn).float())
    assert angle.item() == pytest.approx(0.02, rel=1e-3)


def test_translation_angles_count_the_sign_and_refuse_zero():
    x = torch.tensor([1.0, 0.0, 0.0])
    others = torch.stack((2 * x, -x, torch.zeros(3), torch.tensor([1.0, 1.0, 0.0])))
    angles = translation_angle(x.expand(4, 3), others)
    assert angles.tolist() == pytest.approx([0.0, 180.0, 180.0, 45.0], abs=1e-4)
