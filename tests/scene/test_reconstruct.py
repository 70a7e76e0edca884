import json

import cv2
import numpy as np
import pycolmap
import pytest
import torch
import trimesh
from PIL import Image
from standin import ExactModel, Room, cast

from croco3d.images import ImageError
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.scene import KnownCamera, Scene, load_model, make_pairs
from croco3d.scene.reconstruct import reconstruct
from croco3d.scene.summary import one_line, summarise

MIXED = ((320, 240), (240, 320), (320, 240), (320, 200))


@pytest.fixture(scope="module")
def pair_room():
    return Room()


@pytest.fixture(scope="module")
def pair_scene(pair_room):
    return reconstruct(pair_room.photographs, model=ExactModel(pair_room))


@pytest.fixture(scope="module")
def mixed_room():
    return Room(MIXED)


def check_scene(scene, room):
    """Everything within 0.1 % of the truth, in the frame and unit of the first camera."""
    scale = np.median(
        np.linalg.norm(room.seen_from(0, 0), axis=-1) / scene.pointmaps[0].norm(dim=-1).numpy()
    )
    for index, camera in enumerate(scene.cameras):
        intrinsics = camera.intrinsics.numpy()
        expected = room.intrinsics[index]
        np.testing.assert_allclose(np.diag(intrinsics), np.diag(expected), rtol=1e-3)
        np.testing.assert_allclose(intrinsics[:2, 2], expected[:2, 2], atol=0.51)
        pose, truth = camera.cam2world.double().numpy(), room.relative_pose(0, index)
        turn = pose[:3, :3].T @ truth[:3, :3]
        assert np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) < 1e-3
        assert np.linalg.norm(pose[:3, 3] * scale - truth[:3, 3]) < 1e-3
        points = scene.pointmaps[index].numpy() * scale
        expected = room.seen_from(index, 0).numpy()
        error = np.linalg.norm(points - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
        assert np.quantile(error, 0.99) < 1e-3
    return scale


def test_two_photographs_come_back_exactly(pair_room, pair_scene):
    check_scene(pair_scene, pair_room)
    assert [(camera.width, camera.height) for camera in pair_scene.cameras] == [(320, 240)] * 2
    assert pair_scene.info["images_encoded"] == 2
    json.dumps(pair_scene.info)


def test_many_photographs_of_mixed_sizes_come_back_exactly(mixed_room):
    model = ExactModel(mixed_room)
    scene = reconstruct(mixed_room.photographs, model=model, graph=make_pairs(4, "swin-2"))
    check_scene(scene, mixed_room)
    assert sorted(model.encoded) == [0, 1, 2, 3]


def test_every_export_holds_the_exact_scene(pair_room, pair_scene, tmp_path):
    scale = check_scene(pair_scene, pair_room)
    expected = np.concatenate([pair_room.seen_from(i, 0).reshape(-1, 3) for i in range(2)])
    tolerance = 1e-3 * np.linalg.norm(expected, axis=-1).mean()

    def assert_covers(points):
        from scipy.spatial import cKDTree

        assert len(points) > 0.95 * len(expected)
        distance, _ = cKDTree(expected).query(np.asarray(points) * scale)
        assert np.quantile(distance, 0.99) < tolerance

    pair_scene.save(tmp_path / "scene.ply")
    assert_covers(trimesh.load(tmp_path / "scene.ply").vertices)

    pair_scene.save(tmp_path / "scene.glb")
    clouds = trimesh.load(tmp_path / "scene.glb")
    points = [
        trimesh.transform_points(geometry.vertices, clouds.graph[node][0])
        for node, geometry in ((n, clouds.geometry[clouds.graph[n][1]])
                               for n in clouds.graph.nodes_geometry)
        if isinstance(geometry, trimesh.PointCloud)
    ]  # fmt: skip
    # glTF is y up: x right, y up, z backward.
    assert_covers(np.concatenate(points) * [1, -1, -1])

    pair_scene.save(tmp_path / "scene.npz")
    check_scene(Scene.load(tmp_path / "scene.npz"), pair_room)


@pytest.fixture(scope="module")
def project(pair_room, tmp_path_factory):
    """A scene of photographs in files, and its projects for other tools."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "photographs").mkdir()
    for index, photo in enumerate(pair_room.photographs):
        Image.fromarray(photo).save(folder / "photographs" / f"{index}.png")
    scene = reconstruct(folder / "photographs", model=ExactModel(pair_room))
    scene.save_colmap(folder / "colmap", max_points=2000)
    scene.save_nerfstudio(folder / "nerfstudio")
    return folder, check_scene(scene, pair_room)


def truly_seen(room, index, u, v):
    """What original pixels of a photograph see, in the first camera's frame."""
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(room.intrinsics[index]).T
    pose = room.poses[index]
    points = cast(pose[:3, 3], rays @ pose[:3, :3].T)
    to_first = np.linalg.inv(room.poses[0])
    return points @ to_first[:3, :3].T + to_first[:3, 3]


def test_colmap_sees_what_the_photographs_see(pair_room, project):
    folder, scale = project
    model = pycolmap.Reconstruction(str(folder / "colmap" / "sparse" / "0"))
    assert sorted(image.name for image in model.images.values()) == ["0.png", "1.png"]
    for image in model.images.values():
        index = int(image.name[0])
        truth = pair_room.intrinsics[index]
        fx, fy, cx, cy = model.cameras[image.camera_id].params
        np.testing.assert_allclose([fx, fy], np.diag(truth)[:2], rtol=1e-3)
        np.testing.assert_allclose([cx - 0.5, cy - 0.5], truth[:2, 2], atol=0.01)
        seen = [(p.xy - 0.5, model.points3D[p.point3D_id].xyz) for p in image.points2D]
        pixels, points = (np.array(values) for values in zip(*seen, strict=True))
        assert len(pixels) > 200
        projected = np.array([image.project_point(point) for point in points]) - 0.5
        assert np.linalg.norm(projected - pixels, axis=1).max() < 0.5
        expected = truly_seen(pair_room, index, *pixels.T)
        error = np.linalg.norm(points * scale - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert np.quantile(error, 0.9) < 1e-3


def test_nerfstudio_sees_what_the_photographs_see(pair_room, project):
    folder, scale = project
    document = json.loads((folder / "nerfstudio" / "transforms.json").read_text())
    for frame in document["frames"]:
        index = int(frame["file_path"][-5])
        saved = Image.open(folder / "nerfstudio" / frame["file_path"])
        np.testing.assert_array_equal(np.asarray(saved), pair_room.photographs[index])
        path = folder / "nerfstudio" / frame["depth_file_path"]
        raw = np.load(path) if path.suffix == ".npy" else cv2.imread(str(path), -1)
        v, u = np.nonzero(raw)
        z = raw[v, u] / 1000
        # Rays through pixel centres at +0.5, OpenGL axes.
        x = (u + 0.5 - frame["cx"]) / frame["fl_x"] * z
        y = (v + 0.5 - frame["cy"]) / frame["fl_y"] * z
        world = np.stack([x, -y, -z, np.ones_like(z)], -1) @ np.array(frame["transform_matrix"]).T
        expected = truly_seen(pair_room, index, u.astype(float), v.astype(float))
        error = np.linalg.norm(world[:, :3] * scale - expected, axis=1)
        error /= np.linalg.norm(expected, axis=1)
        # Edges that a map of half the photograph's size cannot hold are the rest.
        assert len(error) > 0.8 * raw.size and np.quantile(error, 0.9) < 1e-3


def test_files_folders_and_summary(pair_room, tmp_path):
    for index, photo in enumerate(pair_room.photographs):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    scene = reconstruct(tmp_path, model=ExactModel(pair_room))
    assert scene.names == ["0.png", "1.png"]
    assert scene.paths == [str(tmp_path / "0.png"), str(tmp_path / "1.png")]
    summary = summarise(scene)
    focal = pair_room.intrinsics[0][0, 0]
    assert summary["images"][0]["focal_px"] == pytest.approx(focal, rel=1e-3)
    # A 320 x 240 image has a diagonal of 400 pixels, a negative one of 43.27 mm.
    assert summary["images"][1]["focal_mm"] == pytest.approx(focal / 400 * 43.267, abs=0.1)
    truth = pair_room.relative_pose(0, 1)
    angle = np.degrees(np.arccos((np.trace(truth[:3, :3]) - 1) / 2))
    assert summary["images"][1]["rotation_degrees"] == pytest.approx(angle, abs=0.05)
    line = one_line(json.loads(json.dumps(summary)))
    assert "2 images of 320x240 pixels" in line
    assert f"1.png is turned {angle:.1f} degrees" in line


def test_retrieval_encodes_each_image_once(mixed_room):
    model = ExactModel(mixed_room)
    scene = reconstruct(mixed_room.photographs, model=model, graph="retrieval-1")
    assert sorted(model.encoded) == [0, 1, 2, 3]
    assert len(scene) == 4


def test_known_cameras_reach_the_alignment(pair_room):
    focals = [float(matrix[0, 0]) for matrix in pair_room.intrinsics]
    known = [KnownCamera(focal=focal) for focal in focals]
    scene = reconstruct(pair_room.photographs, model=ExactModel(pair_room), cameras=known)
    assert float(scene.cameras[1].intrinsics[0, 0]) == pytest.approx(focals[1], abs=1e-3)
    other = reconstruct(
        pair_room.photographs, model=ExactModel(pair_room), cameras=KnownCamera(focal=400.0)
    )
    assert [float(c.intrinsics[0, 0]) for c in other.cameras] == [400.0] * 2
    with pytest.raises(ValueError, match="cannot have a pose"):
        reconstruct(
            pair_room.photographs,
            model=ExactModel(pair_room),
            cameras=KnownCamera(cam2world=np.eye(4)),
        )


def test_too_few_and_missing_photographs(pair_room, tmp_path):
    model = ExactModel(pair_room)
    with pytest.raises(ValueError, match="at least two photographs.*got 1"):
        reconstruct(pair_room.photographs[:1], model=model)
    with pytest.raises(ImageError, match=r"nowhere\.jpg does not exist"):
        reconstruct([pair_room.photographs[0], tmp_path / "nowhere.jpg"], model="not loaded")
    with pytest.raises(ImageError, match="nowhere does not exist"):
        reconstruct(tmp_path / "nowhere", model="not loaded")
    assert not model.encoded


def test_what_does_not_fit_is_refused_before_the_work(pair_room):
    model = ExactModel(pair_room)
    halved = KnownCamera(focal=150.0, size=(160, 120))
    for wrong, message in [
        ({"cameras": halved}, "image_000 are for 160 x 120 pixels.*320 x 240"),
        ({"known_distance": (0, 2, 1.0)}, "image 2; they are numbered 0 to 1"),
        ({"known_distance": ((0, 319, 0), (1, 320, 0), 1.0)}, r"pixel \(320, 0\) of image 1"),
        ({"method": "best"}, "Unknown method 'best'"),
    ]:
        with pytest.raises(ValueError, match=message):
            reconstruct(pair_room.photographs, model=model, **wrong)
    assert not model.encoded


def test_a_corrupt_file_stops_or_is_left_out(pair_room, tmp_path, caplog):
    paths = []
    for index, photo in enumerate(pair_room.photographs):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(photo).save(paths[-1])
    bad = tmp_path / "bad.png"
    bad.write_bytes(paths[0].read_bytes()[:500])
    model = ExactModel(pair_room)
    with pytest.raises(ImageError, match=r"bad\.png"):
        reconstruct([paths[0], bad, paths[1]], model=model)
    assert not model.encoded
    scene = reconstruct([paths[0], bad, paths[1]], model=model, skip_bad=True)
    assert scene.names == ["0.png", "1.png"]
    assert [entry["name"] for entry in scene.info["left_out"]] == ["bad.png"]
    assert "Left out bad.png" in caplog.text
    with pytest.raises(ValueError, match=r"only 1 remained after leaving out bad\.png"):
        reconstruct([paths[0], bad], model=model, skip_bad=True)


def test_what_is_known_keeps_to_its_photograph_when_others_are_left_out(mixed_room, tmp_path):
    paths = []
    for index, photo in enumerate(mixed_room.photographs[:3]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(photo).save(paths[-1])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    focal = 1.02 * mixed_room.intrinsics[2][0, 0]
    scene = reconstruct(
        [bad, *paths],
        model=ExactModel(mixed_room),
        cameras={3: KnownCamera(focal=focal)},
        known_distance=(1, 3, 2.5),
        graph=[(0, 1), (1, 2), (2, 3), (0, 3)],
        skip_bad=True,
    )
    assert scene.names == ["0.png", "1.png", "2.png"]
    assert float(scene.cameras[2].intrinsics[0, 0]) == pytest.approx(focal, rel=1e-6)
    apart = scene.cameras[0].center - scene.cameras[2].center
    assert float(apart.norm()) == pytest.approx(2.5, rel=1e-5)
    assert scene.info["pairs_predicted"] == 4
    with pytest.raises(ValueError, match="Photograph 0 was left out"):
        reconstruct(
            [bad, *paths], model=ExactModel(mixed_room), known_distance=(0, 3, 1.0), skip_bad=True
        )


def test_duplicates_stop_or_are_left_out(pair_room, tmp_path):
    for index, photo in enumerate(pair_room.photographs):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    Image.fromarray(pair_room.photographs[0]).save(tmp_path / "again.png")
    model = ExactModel(pair_room)
    order = [tmp_path / name for name in ("0.png", "1.png", "again.png")]
    with pytest.raises(ValueError, match=r"0\.png and .*again\.png are the same photograph"):
        reconstruct(order, model=model)
    scene = reconstruct(order, model=model, skip_bad=True)
    assert scene.names == ["0.png", "1.png"]
    assert "same photograph as 0.png" in scene.info["left_out"][0]["reason"]


def test_photographs_without_overlap_are_named(mixed_room):
    model = ExactModel(mixed_room)
    real = model.decode

    def doubtful(a, b):
        output = real(a, b)
        for row, (i, j) in enumerate(model.decoded[-len(output.confidence1) :]):
            if 3 in (i, j):
                output.confidence1[row] = output.confidence2[row] = 1.0
        return output

    model.decode = doubtful
    with pytest.raises(ValueError, match=r"\[image_003\]"):
        reconstruct(mixed_room.photographs, model=model)


def test_graph_that_is_not_connected_is_refused_before_the_work(mixed_room):
    model = ExactModel(mixed_room)
    with pytest.raises(ValueError, match="not connected"):
        reconstruct(mixed_room.photographs, model=model, graph=[(0, 1), (2, 3)])
    assert not model.encoded


def test_settings_that_mean_nothing(pair_room):
    with pytest.raises(ValueError, match="bfloat16"):
        reconstruct(pair_room.photographs, model=ExactModel(pair_room), dtype="int8")
    with pytest.raises(ValueError, match="Linear does not predict pointmaps"):
        reconstruct(pair_room.photographs, model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="loaded already; give load_model its dtype"):
        reconstruct(pair_room.photographs, load_model(ExactModel(pair_room)), dtype="bfloat16")


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    parts = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", **parts},
        decoder_config={"model_type": "croco3d_pair_decoder", **parts},
        head_config={"model_type": "croco3d_linear_head"},
        image_size=64,
    )
    return Dust3rForStereo(config)


def test_the_fast_layout_changes_nothing_and_is_undone(tiny, pair_room, monkeypatch):
    seen = []
    decode = type(tiny).decode

    def watched(self, *features):
        seen.append(self.is_optimized)
        return decode(self, *features)

    monkeypatch.setattr(type(tiny), "decode", watched)
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    tiny.train()
    outputs = []
    for optimize in (True, False):
        scene = reconstruct(
            pair_room.photographs, tiny, cameras=KnownCamera(focal=300.0), optimize=optimize
        )
        outputs.append(scene.pointmaps)
    assert seen == [True] * 2 + [False] * 2
    for fast, plain in zip(*outputs, strict=True):
        assert (fast - plain).norm() < 1e-4 * plain.norm()
    assert tiny.training and not tiny.is_optimized
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    (tiny(*torch.randn(2, 1, 3, 64, 64)).pointmap2.sum()).backward()


def test_the_fast_layout_is_undone_after_an_interruption(tiny, pair_room, monkeypatch):
    def stop(self, a, b):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tiny), "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(pair_room.photographs, tiny)
    assert not tiny.is_optimized and next(tiny.encoder.parameters()).numel() > 0


def test_frames_of_a_video_come_out_at_their_own_resolution(pair_room, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (320, 240))  # pyright: ignore
    black = np.zeros((240, 320, 3), np.uint8)
    for photo in pair_room.photographs:
        for frame in (photo, black, black):
            writer.write(frame[..., ::-1].copy())
    writer.release()
    scene = reconstruct(path, ExactModel(pair_room), every=3)
    check_scene(scene, pair_room)
    assert scene.names == ["clip_000000.png", "clip_000003.png"]
    scene.save_colmap(tmp_path / "colmap", max_points=500)
    for index, name in enumerate(("clip_000000.jpg", "clip_000003.jpg")):
        saved = np.asarray(Image.open(tmp_path / "colmap" / "images" / name)).astype(int)
        assert saved.shape == (240, 320, 3)
        assert np.abs(saved - pair_room.photographs[index]).mean() < 3
    scene.save_tum(tmp_path / "path.txt")
    times = np.loadtxt(tmp_path / "path.txt")[:, 0]
    np.testing.assert_allclose(times, [0, 0.3])
