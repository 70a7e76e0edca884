"""A sample's maps, intrinsics and colours agree with an analytic scene after every transform."""

import numpy as np
import pytest
import torch
from plane_scene import camera, check_view, plane_depth, plane_source, pose, texture
from torch.utils.data import default_collate

from croco3d.data import Augment, Draw, Frame, PairDataset, PairSource


@pytest.mark.parametrize("crop", ["center", "keep"])
@pytest.mark.parametrize("resolution", [(64, 48), 56, (48, 64), (150, 110), (64, 20)])
@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("zoom", [1.0, 1.7])
def test_points_project_to_the_pixels_that_show_them(crop, resolution, portrait, zoom):
    augment = Augment(0, 0, 0, 0, zoom=zoom)
    dataset = PairDataset(plane_source(portrait=portrait), resolution, augment, crop=crop)
    sample = dataset[0]
    for number in (1, 2):
        # Nearest sampling: half a source pixel of the plane's slope, which is below 0.02 a pixel.
        assert check_view(sample, number, 0.02) < 4
        assert sample[f"valid{number}"].all()


def test_a_mirrored_pair_is_the_pair_of_the_mirrored_scene():
    augment = Augment(0, 0, 0, 0, zoom=1.3, mirror=1.0)
    sample = PairDataset(plane_source(), (64, 48), augment, crop="keep")[0]
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    back = dict(sample)
    for number in (1, 2):
        assert torch.linalg.det(sample[f"cam2world{number}"]) > 0
        for name, axis in (("pixel_values", 2), ("depth", 1), ("valid", 1), ("pointmap", 1)):
            back[f"{name}{number}"] = sample[f"{name}{number}"].flip(axis)
        back[f"pointmap{number}"] = back[f"pointmap{number}"] * flip.diagonal()[:3]
        back[f"cam2world{number}"] = flip @ sample[f"cam2world{number}"] @ flip
        intrinsics = sample[f"intrinsics{number}"].clone()
        intrinsics[0, 2] = 63 - intrinsics[0, 2]
        back[f"intrinsics{number}"] = intrinsics
        assert check_view(back, number, 0.02) < 4


def test_about_the_wanted_share_of_pairs_is_mirrored():
    augment = Augment(0, 0, 0, 0, mirror=0.3)
    dataset = PairDataset(plane_source(), (64, 48), augment)
    plain = PairDataset(plane_source(), (64, 48))[0]["cam2world1"]
    draws = [dataset[Draw(0, epoch=epoch)] for epoch in range(200)]
    mirrored = [not torch.equal(sample["cam2world1"], plain) for sample in draws]
    assert 35 < sum(mirrored) < 85
    with pytest.raises(ValueError, match="mirror=2"):
        Augment(mirror=2)


@pytest.mark.parametrize("resolution", [(64, 48), 56])
def test_center_crop_puts_the_principal_point_at_the_centre(resolution):
    sample = PairDataset(plane_source(), resolution)[0]
    height, width = sample["true_shape1"].tolist()
    for number in (1, 2):
        principal = sample[f"intrinsics{number}"][:2, 2]
        torch.testing.assert_close(principal, torch.tensor([(width - 1) / 2, (height - 1) / 2]))


def test_portrait_stored_transposed_or_swapped_or_cropped():
    source = plane_source(portrait=True)
    lying = PairDataset(source, (64, 48), portrait="transpose")[0]
    upright = PairDataset(source, (64, 48), portrait="swap")[0]
    cropped = PairDataset(source, (64, 48), portrait="crop")[0]
    assert lying["pixel_values1"].shape == (3, 48, 64)
    assert lying["true_shape1"].tolist() == upright["true_shape1"].tolist() == [64, 48]
    assert upright["pixel_values1"].shape == (3, 64, 48)
    assert cropped["true_shape1"].tolist() == [48, 64]
    torch.testing.assert_close(lying["pixel_values1"], upright["pixel_values1"].mT)
    torch.testing.assert_close(lying["pointmap2"], upright["pointmap2"].transpose(0, 1))
    torch.testing.assert_close(lying["cam2world2"], upright["cam2world2"])
    for number in (1, 2):
        assert check_view(lying, number, 0.02) < 4


def test_depth_of_another_size_masks_and_limits():
    source = plane_source((160, 120))
    frame = source.frames[0]
    v, u = np.indices((30, 40)).astype(float)
    small = plane_depth(frame.intrinsics, frame.cam2world, u * 4 + 1.5, v * 4 + 1.5)
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = 255
    changed = Frame(
        frame.image,
        small * 1000,
        frame.intrinsics,
        frame.cam2world,
        "small",
        depth_scale=1e-3,
        mask=mask,
        max_depth=float(np.median(small)),
    )
    sample = PairDataset(
        PairSource("p", [changed, source.frames[1]], np.array([[0, 1]])), (80, 60), crop="keep"
    )[0]
    assert check_view(sample, 1, 0.08) < 12
    valid, depth = sample["valid1"], sample["depth1"]
    assert not valid[:, :40].any() and valid.any()
    assert depth.max() <= np.median(small) and (depth[~valid] == 0).all()
    assert (sample["pointmap1"][~valid] == 0).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_impossible_depths_are_invalid(bad):
    source = plane_source()
    depth = np.array(source.frames[0].depth)
    depth[:60] = bad
    frame = Frame(
        source.frames[0].image,
        depth,
        source.frames[0].intrinsics,
        source.frames[0].cam2world,
        "bad",
    )
    sample = PairDataset(
        PairSource("p", [frame, frame], np.array([[0, 1]])), (80, 60), crop="keep"
    )[0]
    assert not sample["valid1"][:30].any() and sample["valid1"][30:].all()
    assert all(torch.isfinite(value).all() for value in sample.values() if torch.is_tensor(value))


@pytest.mark.parametrize(
    ("lens", "fisheye"), [((-0.25, 0.08, 0.002, -0.001), False), ((0.05, -0.01, 0.002, 0.0), True)]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_lens_distortion_is_undone(lens, fisheye, sparse):
    import cv2

    size, intrinsics, cam2world = (160, 120), camera(110, 82, 57), pose(0.1, -0.1, 0, (0.1, 0, 0))
    v, u = np.indices((size[1], size[0])).astype(float)
    pixels = np.stack((u, v), -1).reshape(-1, 1, 2)
    undistort = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
    rays = undistort(pixels, intrinsics, np.array(lens), P=intrinsics).reshape(size[1], size[0], 2)
    depth = plane_depth(intrinsics, cam2world, rays[..., 0], rays[..., 1])
    local = depth[..., None] * (
        np.dstack((rays, np.ones_like(depth))) @ np.linalg.inv(intrinsics).T
    )
    image = texture(local @ cam2world[:3, :3].T + cam2world[:3, 3]).round().astype(np.uint8)
    frame = Frame(
        image,
        depth,
        intrinsics,
        cam2world,
        "lens",
        distortion=np.array(lens),
        fisheye=fisheye,
        sparse_depth=sparse,
    )
    sample = PairDataset(PairSource("p", [frame, frame], np.array([[0, 1]])), (80, 60))[0]
    assert check_view(sample, 1, 0.03) < 6
    assert sample["valid1"].float().mean() > 0.98


def test_sparse_depth_keeps_measured_points_that_sampling_would_lose():
    source = plane_source((160, 120))
    frame = source.frames[0]
    rows, columns = np.random.default_rng(0).integers(0, (120, 160), size=(100, 2)).T
    depth = np.zeros((120, 160), np.float32)
    depth[rows, columns] = np.asarray(frame.depth)[rows, columns]
    counts = []
    for sparse in (False, True):
        lidar = Frame(
            frame.image, depth, frame.intrinsics, frame.cam2world, "lidar", sparse_depth=sparse
        )
        dataset = PairDataset(
            PairSource("p", [lidar, lidar], np.array([[0, 1]])), (40, 30), crop="keep", min_valid=1
        )
        sample = dataset[0]
        counts.append(int(sample["valid1"].sum()))
        check_view(sample, 1, 0.08)
    assert counts[0] < 20 and counts[1] > 80


def test_sample_keys_and_types():
    sample = PairDataset(plane_source(), (64, 48))[0]
    expected = {"dataset": str}
    for number in "12":
        expected |= {
            f"pixel_values{number}": ((3, 48, 64), torch.float32),
            f"pointmap{number}": ((48, 64, 3), torch.float32),
            f"valid{number}": ((48, 64), torch.bool),
            f"cam2world{number}": ((4, 4), torch.float32),
            f"intrinsics{number}": ((3, 3), torch.float32),
            f"depth{number}": ((48, 64), torch.float32),
            f"true_shape{number}": ((2,), torch.int64),
            f"name{number}": str,
        }
    assert sample.keys() == expected.keys()
    for key, what in expected.items():
        if what is str:
            assert isinstance(sample[key], str)
        else:
            assert (tuple(sample[key].shape), sample[key].dtype) == what, key
    assert sample["pixel_values1"].abs().max() <= 1
    assert default_collate([sample, sample])["pointmap1"].shape == (2, 48, 64, 3)


def test_jitter_changes_colours_only_and_by_draw():
    plain = PairDataset(plane_source(), (64, 48))
    jittered = PairDataset(plane_source(), (64, 48), Augment(), seed=3)
    state = torch.random.get_rng_state()
    first = jittered[0]
    again, later = jittered[0, 0, 0], jittered[0, 0, 1]
    assert torch.equal(state, torch.random.get_rng_state())
    torch.testing.assert_close(first["pointmap1"], plain[0]["pointmap1"])
    assert torch.equal(first["pixel_values1"], again["pixel_values1"])
    assert (first["pixel_values1"] - later["pixel_values1"]).abs().mean() > 0.01
    assert (first["pixel_values1"] - plain[0]["pixel_values1"]).abs().mean() > 0.01
    jittered.set_epoch(1)
    assert torch.equal(jittered[0]["pixel_values1"], later["pixel_values1"])


def test_sources_and_data_sets_can_be_sent_to_workers():
    import pickle

    from croco3d.data.frames import PackedFrames

    source = plane_source()
    packed = PairSource("plane", PackedFrames(source.frames), source.pairs)
    assert [f.name for f in packed.frames[:]] == ["first", "second"]
    assert packed.frames[-1].name == "second" and len(packed.frames) == 2
    with pytest.raises(IndexError):
        packed.frames[2]
    dataset = PairDataset(packed, (64, 48), Augment())
    sent = pickle.loads(pickle.dumps(dataset))
    for key, value in PairDataset(source, (64, 48), Augment())[0].items():
        assert torch.equal(sent[0][key], value) if torch.is_tensor(value) else sent[0][key] == value


def test_pixels_of_posed_frames_are_taken_as_stored(tmp_path):
    """Cameras and depth speak of the stored pixels, so that an EXIF turn must not be applied."""
    from PIL import Image

    from croco3d.data.loading import load_pixels

    image = np.asarray(plane_source().frames[0].image)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif, quality=98)
    loaded = load_pixels(tmp_path / "turned.jpg")
    assert loaded.shape == image.shape
    assert np.abs(loaded.astype(int) - image).mean() < 3


def test_off_centre_principal_point_is_refused_with_the_remedy():
    source = plane_source()
    frame = source.frames[0]
    off = Frame(frame.image, frame.depth, camera(150, 20, 60), frame.cam2world, "off")
    pairs = PairSource("p", [off, off], np.array([[0, 0]]))
    with pytest.raises(RuntimeError, match='crop="keep"'):
        PairDataset(pairs, 64)[0]
    PairDataset(pairs, 64, crop="keep")[0]
