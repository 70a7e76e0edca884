"""Rooms, cameras and pairs: what follows from a seed, without a pixel."""

import numpy as np
import pytest

from croco3d.data.synthetic import cameras, catalogue, layout
from croco3d.data.synthetic.cameras import CameraSettings
from croco3d.data.synthetic.effects import PhotoSettings, develop

SEEDS = range(4)


@pytest.fixture(scope="module")
def shapes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "TEXTURE_COUNT", 24)
        return catalogue.load_catalogue.__wrapped__("train", "shapes")


def test_a_seed_gives_the_same_room_and_another_seed_another(shapes):
    prints = [layout.sample_room(shapes, seed).fingerprint() for seed in SEEDS]
    assert prints == [layout.sample_room(shapes, seed).fingerprint() for seed in SEEDS]
    assert len(set(prints)) == len(prints)


def test_splits_share_no_room_for_equal_seeds(shapes, monkeypatch):
    monkeypatch.setattr(catalogue, "TEXTURE_COUNT", 4)
    other = catalogue.load_catalogue.__wrapped__("val", "shapes")
    trained = {layout.sample_room(shapes, seed).fingerprint() for seed in SEEDS}
    assert trained.isdisjoint(layout.sample_room(other, seed).fingerprint() for seed in SEEDS)
    # Procedural pieces and textures differ too.
    assert not np.array_equal(other.textures[0], shapes.textures[0])
    assert not np.allclose(other.pieces[0].mesh.size, shapes.pieces[0].mesh.size)


def test_pieces_stand_inside_the_room_and_not_in_each_other(shapes):
    for seed in SEEDS:
        room = layout.sample_room(shapes, seed)
        assert len(room.placed) >= 6
        half = [*(room.size[:2] / 2), room.size[2]]
        assert (room.boxes[:, 1] <= np.array(half) + 1e-3).all()
        assert (room.boxes[:, 0] >= -np.array([half[0], half[1], 0]) - 0.07).all()
        standing = room.boxes[room.boxes[:, 0, 2] < 0.1]
        for i, a in enumerate(standing):
            for b in standing[i + 1 :]:
                assert ((a[0] >= b[1] - 0.021) | (a[1] <= b[0] + 0.021)).any()


def test_cameras_are_in_free_space_and_in_range(shapes):
    settings = CameraSettings(views=12, cluster=6, fov=(50.0, 70.0), height=(0.6, 1.8))
    for seed in SEEDS:
        room = layout.sample_room(shapes, seed)
        intrinsics, poses = cameras.sample_cameras(
            np.random.default_rng(seed), room, (64, 48), settings
        )
        rotations = poses[:, :3, :3]
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (12, 1, 1)), atol=1e-5
        )
        np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
        fov = np.degrees(2 * np.arctan(32 / intrinsics[:, 0, 0]))
        assert (fov > 49.9).all() and (fov < 70.1).all()
        eyes = poses[:, :3, 3]
        assert (np.abs(eyes[:, :2]) < room.size[:2] / 2).all()
        assert (eyes[:, 2] > 0.4).all() and (eyes[:, 2] < 2.0).all()
        inside = (eyes[:, None] > room.boxes[:, 0]) & (eyes[:, None] < room.boxes[:, 1])
        assert not inside.all(axis=2).any()
        # Down in the image is down in the world.
        assert (poses[:, 2, 1] < 0).all()


def test_neighbours_move_away_from_their_anchor(shapes):
    settings = CameraSettings(views=60, cluster=6)
    room = layout.sample_room(shapes, 1)
    _, poses = cameras.sample_cameras(np.random.default_rng(0), room, (64, 48), settings)
    clusters = poses[:, :3, 3].reshape(10, 6, 3)
    distance = np.median(np.linalg.norm(clusters - clusters[:, :1], axis=-1), axis=0)
    assert distance[0] == 0 and 0 < distance[1] < distance[3] < distance[5]


def test_look_at_points_the_axis_at_the_target():
    eye, target = np.array([1.0, 2, 1.5]), np.array([-1.0, 0.5, 0.3])
    pose = cameras.look_at(eye, target, roll=0.3)
    local = np.linalg.inv(pose) @ [*target, 1]
    np.testing.assert_allclose(local[:3], [0, 0, np.linalg.norm(target - eye)], atol=1e-12)


def plane_views(offsets, width=40, height=30):
    """Views of the plane z = 2 by cameras without rotation, shifted sideways."""
    intrinsics = np.array([[40.0, 0, 19.5], [0, 40, 14.5], [0, 0, 1]])
    poses = np.tile(np.eye(4), (len(offsets), 1, 1))
    poses[:, 0, 3] = offsets
    depths = np.full((len(offsets), height, width), 2.0)
    return depths, np.tile(intrinsics, (len(offsets), 1, 1)), poses


def test_overlap_equals_the_shift_of_a_plane():
    # A shift of 0.5 m at 2 m and focal length 40 is 10 of 40 pixels.
    overlap = cameras.overlap_matrix(*plane_views([0.0, 0.5, 5.0]), stride=1)
    np.testing.assert_allclose(overlap, [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]], atol=1e-9)


def test_overlap_leaves_out_what_is_hidden():
    depths, intrinsics, poses = plane_views([0.0, 0.0])
    depths[1, :, :20] = 1.0  # something nearer covers half of the second view
    overlap = cameras.overlap_matrix(depths, intrinsics, poses, stride=1)
    assert overlap[0, 1] == pytest.approx(0.5) and overlap[1, 0] == pytest.approx(0.5)


def test_pair_table_measures_angle_and_baseline():
    depths, intrinsics, poses = plane_views([0.0, 0.5])
    angle = np.radians(10)
    c, s = np.cos(angle), np.sin(angle)
    poses[1, :3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    table = cameras.pair_table(depths, intrinsics, poses, stride=1)
    assert table.indices.tolist() == [[0, 1]]
    assert table.rotation[0] == pytest.approx(10, abs=1e-3)
    assert table.baseline[0] == pytest.approx(0.5)
    assert table.relative_baseline[0] == pytest.approx(0.25)
    assert len(cameras.pair_table(depths, intrinsics, poses, min_overlap=0.9).indices) == 0


def test_developing_keeps_order_of_brightness_and_aims_at_mid_grey():
    ramp = np.tile(np.linspace(0.01, 1, 64, dtype=np.float32)[None, :, None], (48, 1, 3))
    settings = PhotoSettings(exposure_error=0, white_balance=0, blur=0.31, motion=1.0, noise=0)
    look = np.full(4, 0.5)
    for scale in (0.05, 1.0, 20.0):
        image = develop(ramp * np.float32(scale), np.random.default_rng(0), settings, look)
        assert image.dtype == np.uint8
        assert 70 < np.median(image) < 190
        assert (np.diff(image[20, 2:-2, 1].astype(int)) >= 0).all()
