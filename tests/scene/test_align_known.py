from dataclasses import replace

import pytest
import torch

from croco3d.scene import align
from croco3d.scene.alignment import Errors, simulate_room
from croco3d.scene.known import KnownCamera

SIZE = (36, 48)
NOISY = Errors(independent=0.005, correlated=0.02, field_of_view=0.04)


def room(count=4, errors=NOISY, **options):
    return simulate_room(count, SIZE, errors=errors, **options)


def centre_error(scene, truth):
    found = torch.stack([camera.center for camera in scene.cameras])
    return (found - truth.cam2world[:, :3, 3].float()).norm(dim=1)


@pytest.mark.parametrize("method", [None, "adam"])
def test_fixed_means_fixed(method, monkeypatch):
    monkeypatch.setattr("croco3d.scene.alignment.adam.STEPS", 30)
    truth = room(3)
    pose, point = truth.cam2world[1], (25.25, 17.5)
    known = {
        1: KnownCamera(cam2world=pose, focal=(51.3, 52.1)),
        2: KnownCamera(principal_point=point, focal=50.7),
    }
    scene = align(truth.predictions, method=method, cameras=known)
    assert torch.equal(scene.cameras[1].cam2world, pose.float())
    assert scene.cameras[1].intrinsics.diagonal().tolist() == pytest.approx([51.3, 52.1, 1])
    assert scene.cameras[2].intrinsics.tolist() == [
        [pytest.approx(50.7), 0, 25.25], [0, pytest.approx(50.7), 17.5], [0, 0, 1],
    ]  # fmt: skip
    # what is fixed is what the maps were made with, too
    pixels, _ = scene.cameras[2].project(scene.pointmaps[2])
    assert (pixels[9, 13] - torch.tensor([13.0, 9.0])).abs().max() < 1e-3


def test_two_known_poses_give_metres_and_pull_the_others():
    truth = room(5)
    known = {n: KnownCamera(cam2world=truth.cam2world[n]) for n in (0, 4)}
    scene = align(truth.predictions, cameras=known)
    assert scene.metric
    free = align(truth.predictions)
    assert not free.metric
    errors = centre_error(scene, truth)
    assert errors[[0, 4]].max() == 0 and errors.max() < 0.15
    assert truth.errors(scene).rotation_mean < truth.errors(free).rotation_mean
    ratio = scene.depthmaps[2].mean() / truth.depthmaps[2].mean()
    assert ratio == pytest.approx(1, abs=0.05)


def test_known_focals_improve_the_poses():
    truth = room(4, Errors(independent=0.002, field_of_view=0.1))
    known = [KnownCamera(focal=float(f)) for f in truth.focals]
    free, fixed = align(truth.predictions), align(truth.predictions, cameras=known)
    assert truth.errors(fixed).focal_mean < 1e-4 < truth.errors(free).focal_mean
    assert truth.errors(fixed).translation_mean < truth.errors(free).translation_mean


def test_an_initial_value_is_only_a_start():
    truth = room(3, Errors(independent=0.0))
    off = truth.cam2world[2].clone()
    off[:3, 3] += torch.tensor([0.3, -0.2, 0.1])
    known = {
        0: KnownCamera(cam2world=truth.cam2world[0]),
        1: KnownCamera(cam2world=truth.cam2world[1], focal=60.0, use_focal="initial"),
        2: KnownCamera(cam2world=off, use_pose="initial"),
    }
    scene = align(truth.predictions, cameras=known)
    assert centre_error(scene, truth).max() < 1e-3
    assert truth.errors(scene).focal_mean < 0.01


def test_initial_poses_alone_choose_the_world():
    truth = room(3, Errors(independent=0.0))
    known = [KnownCamera(cam2world=pose, use_pose="initial") for pose in truth.cam2world]
    scene = align(truth.predictions, cameras=known)
    assert centre_error(scene, truth).max() < 1e-3
    one = align(truth.predictions, cameras={1: known[1]})
    torch.testing.assert_close(one.cameras[1].cam2world, truth.cam2world[1].float())
    assert not one.metric


def test_principal_point_is_found_when_asked_for():
    # views that show one plane only would leave it open; these show corners
    truth = room(4, Errors(independent=0.0), seed=1)
    cut = {
        name: getattr(truth.predictions, name)[:, :, 4:]
        for name in ("pointmaps1", "pointmaps2", "confidences1", "confidences2")
    }
    predictions = replace(truth.predictions, **cut, images=None, sizes=None, names=None)
    wanted = torch.tensor([20.0, 18.0])  # the centre of the cut images is (22, 18)
    estimated = align(predictions, cameras=[KnownCamera(use_principal_point="initial")] * 4)
    for camera in estimated.cameras:
        torch.testing.assert_close(camera.intrinsics[:2, 2], wanted, atol=0.05, rtol=0)
    fixed = align(predictions, cameras=[KnownCamera(principal_point=(20.0, 18.0))] * 4)
    assert truth.errors(fixed).rotation_max < 0.01 < truth.errors(align(predictions)).rotation_max


def test_shared_focal_is_one_number():
    truth = room(4)
    scene = align(truth.predictions, shared_focal=True)
    focals = torch.stack([camera.intrinsics[0, 0] for camera in scene.cameras])
    assert (focals - focals[0]).abs().max() < 1e-4
    assert truth.errors(scene).focal_mean < truth.errors(align(truth.predictions)).focal_mean
    known = align(truth.predictions, shared_focal=True, cameras={1: KnownCamera(focal=52.8)})
    assert all(c.intrinsics[0, 0] == pytest.approx(52.8) for c in known.cameras)


def test_known_distance_sets_the_unit():
    truth = room(3, Errors(independent=0.0))
    apart = float((truth.cam2world[0, :3, 3] - truth.cam2world[2, :3, 3]).norm())
    scene = align(truth.predictions, known_distance=(0, 2, apart))
    torch.testing.assert_close(scene.depthmaps[1], truth.depthmaps[1], rtol=1e-3, atol=1e-3)
    points = scene.pointmaps[0][10, 12], scene.pointmaps[1][20, 30]
    seen = float((points[0] - points[1]).norm())
    again = align(truth.predictions, known_distance=((0, 12, 10), (1, 30, 20), 2 * seen))
    assert again.metric
    torch.testing.assert_close(again.depthmaps[1], 2 * scene.depthmaps[1], rtol=1e-4, atol=1e-4)


def test_refuses_what_does_not_fit():
    given = room(3).predictions
    large = torch.tensor([[200.0, 0, 96], [0, 200, 72], [0, 0, 1]])
    pose = torch.eye(4)
    for cameras, message in [
        ({0: KnownCamera.from_intrinsics(large)}, "outside it.*48 x 36"),
        ({0: KnownCamera(focal=50.0, size=(96, 72))}, "96 x 72 pixels.*48 x 36"),
        ([None, None], "2 entries for 3"),
        ({3: KnownCamera()}, "image 3"),
        ({0: 50.0}, "must be a KnownCamera"),
    ]:
        with pytest.raises(ValueError, match=message):
            align(given, cameras=cameras)
    two = {n: KnownCamera(cam2world=pose) for n in (0, 1)}
    with pytest.raises(ValueError, match="Two known poses"):
        align(given, cameras=two, known_distance=(0, 2, 1.0))
    for distance, message in [
        ((0, 0, 1.0), "two different"), ((0, 1, -1.0), "positive"), ((0, 7, 1.0), "names image 7"),
        (((0, 900, 3), (1, 3, 3), 1.0), r"pixel \(900, 3\) of image 0"),
            ((0, (1, 3, 3), 1.0), "two images or two pixels"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            align(given, known_distance=distance)
    for arguments, message in [
        ({"focal": -1.0}, "positive"),
        ({"cam2world": torch.eye(3)}, r"\(4, 4\)"),
        ({"cam2world": 2 * torch.eye(4)}, "rotation"),
        ({"use_pose": "guess"}, "'fixed' or 'initial'"),
    ]:
        with pytest.raises(ValueError, match=message):
            KnownCamera(**arguments)
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        KnownCamera.from_intrinsics(torch.eye(4))
