import json
import struct

import cv2
import numpy as np
import pycolmap
import pytest
import torch
import trimesh
from analytic_scene import CENTER, FOCAL, SIZE, analytic_scene, distance_to_surfaces, paint, view
from evo.tools import file_interface
from PIL import Image
from scipy.spatial import KDTree

from croco3d.scene import Scene
from croco3d.scene.export.glb import srgb_to_linear

TOLERANCE = 1e-3
TO_GLTF = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return analytic_scene(3, tmp_path_factory.mktemp("photographs"))


def all_points(scene):
    return torch.cat([p.flatten(0, 1) for p in scene.pointmaps]).numpy()


def all_colors(scene):
    return torch.cat([i.flatten(0, 1) for i in scene.images]).numpy()


def test_glb_cloud_is_y_up_with_linear_colours(scene, tmp_path):
    scene.save(tmp_path / "a.glb", show_cameras=False)
    (cloud,) = trimesh.load(tmp_path / "a.glb").geometry.values()
    np.testing.assert_allclose(cloud.vertices @ TO_GLTF.T, all_points(scene), atol=1e-6)
    linear = srgb_to_linear(all_colors(scene))
    np.testing.assert_allclose(cloud.colors[:, :3] / 255, linear, atol=0.5 / 255 + 1e-6)
    assert srgb_to_linear(np.array([0, 118, 255], dtype=np.uint8)) == pytest.approx(
        [0, 0.181164, 1], abs=1e-6
    )


def test_glb_frusta_sit_at_the_cameras(scene, tmp_path):
    scene.save(tmp_path / "a.glb")
    loaded = trimesh.load(tmp_path / "a.glb")
    assert set(loaded.geometry) == {"points", "camera_0", "camera_1", "camera_2"}
    for index, camera in enumerate(scene.cameras):
        vertices = loaded.geometry[f"camera_{index}"].vertices @ TO_GLTF.T
        pixels, depth = camera.project(torch.tensor(np.array(vertices)))
        far = depth > depth.max() * 0.95
        # The bars are centred on the borders of the photograph, half a pixel beyond its centres.
        border = pixels[far].double()
        assert border.min(0).values.numpy() == pytest.approx([-0.5, -0.5], abs=0.03 * SIZE[0])
        assert border.max(0).values.numpy() == pytest.approx(
            [SIZE[0] - 0.5, SIZE[1] - 0.5], abs=0.03 * SIZE[0]
        )
        assert loaded.geometry[f"camera_{index}"].volume > 0


@pytest.mark.parametrize(
    ("axis", "up"), [("-y", [0, -1, 0]), ("y", [0, 1, 0]), ("z", [0, 0, 1]), ("-z", [0, 0, -1])]
)
def test_glb_up_follows_the_scenes_up_axis(scene, tmp_path, axis, up):
    turned = scene.oriented(axis, up=torch.tensor([0.0, -1.0, 0.0]))
    turned.save(tmp_path / "a.glb", show_cameras=False)
    (cloud,) = trimesh.load(tmp_path / "a.glb").geometry.values()
    heights = all_points(turned) @ np.array(up)
    np.testing.assert_allclose(cloud.vertices[:, 1], heights, atol=1e-5)
    np.testing.assert_allclose(heights, -all_points(scene)[:, 1], atol=1e-5)


def test_glb_follows_the_container_format(scene, tmp_path):
    scene.save(tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length, text_length, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    tree = json.loads(data[20 : 20 + text_length])
    assert tree["buffers"][0]["byteLength"] == len(data) - 28 - text_length
    assert all(view["byteOffset"] % 4 == 0 for view in tree["bufferViews"])


def test_glb_mesh_lies_on_the_surfaces_and_faces_the_cameras(scene, tmp_path):
    scene.save(tmp_path / "a.glb", mesh=True, show_cameras=False)
    (mesh,) = trimesh.load(tmp_path / "a.glb", process=False).geometry.values()
    vertices = np.asarray(mesh.vertices) @ TO_GLTF.T
    assert distance_to_surfaces(vertices).max() < TOLERANCE
    centers = np.asarray(mesh.triangles_center) @ TO_GLTF.T
    towards = np.stack([c.center.numpy() for c in scene.cameras]).mean(0) - centers
    assert ((mesh.face_normals @ TO_GLTF.T * towards).sum(1) > 0).mean() > 0.99


def test_ply_is_the_world_as_it_is(scene, tmp_path):
    scene.save(tmp_path / "a.ply")
    cloud = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(cloud.vertices, all_points(scene), atol=1e-6)
    np.testing.assert_array_equal(cloud.colors[:, :3], all_colors(scene))
    scene.save(tmp_path / "mesh.ply", mesh="grid")
    mesh = trimesh.load(tmp_path / "mesh.ply", process=False)
    assert len(mesh.faces) > 0 and distance_to_surfaces(mesh.vertices).max() < TOLERANCE


def test_npz_is_lossless_and_needs_no_pickle(scene, tmp_path):
    masked = scene.with_masks([None, torch.rand(360, 480) > 0.5, None])
    masked.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive["intrinsics"].shape == (3, 3, 3)
        np.testing.assert_array_equal(archive["pointmap_1"], scene.pointmaps[1].numpy())
    loaded = Scene.load(tmp_path / "a.npz")
    for name in ("pointmaps", "depthmaps", "confidences", "images", "pixel_to_original"):
        for ours, theirs in zip(getattr(loaded, name), getattr(masked, name), strict=True):
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    assert [m is None for m in loaded.masks] == [True, False, True]
    assert torch.equal(loaded.masks[1], masked.masks[1])
    for ours, theirs in zip(loaded.cameras, masked.cameras, strict=True):
        assert torch.equal(ours.intrinsics, theirs.intrinsics)
        assert torch.equal(ours.cam2world, theirs.cam2world)
        assert (ours.width, ours.height) == (theirs.width, theirs.height) == SIZE
    assert (loaded.names, loaded.paths, loaded.info) == (masked.names, masked.paths, masked.info)
    assert loaded.metric and loaded.up_axis == "-y"


def test_npz_that_is_none_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    whole = tmp_path / "whole.npz"
    analytic_scene(1).save(whole)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:1000])
    for name in ("text", "other", "cut"):
        with pytest.raises(ValueError, match=f"{name}.npz is not a scene"):
            Scene.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        Scene.load(tmp_path / "missing.npz")


def test_colmap_model_reprojects_under_half_a_pixel(scene, tmp_path):
    scene.save_colmap(tmp_path / "project", max_points=5000)
    model = pycolmap.Reconstruction(str(tmp_path / "project" / "sparse" / "0"))
    assert model.num_images() == 3 and len(model.cameras) == 1
    (camera,) = model.cameras.values()
    assert (camera.width, camera.height) == SIZE
    assert camera.params == pytest.approx([FOCAL, FOCAL, CENTER[0] + 0.5, CENTER[1] + 0.5])
    errors, lengths = [], []
    for point in model.points3D.values():
        lengths.append(point.track.length())
        assert distance_to_surfaces(point.xyz[None])[0] < 1e-6
        for element in point.track.elements:
            image = model.images[element.image_id]
            observed = image.points2D[element.point2D_idx]
            errors.append(np.linalg.norm(image.project_point(point.xyz) - observed.xy))
            assert model.points3D[observed.point3D_id] is not None
    assert max(errors) < 0.01
    assert 1000 < len(lengths) <= 5000 and np.mean(np.array(lengths) >= 2) > 0.5
    stored = [point.error for point in model.points3D.values()]
    assert 0 < np.mean(stored) < 0.1


def test_colmap_observations_see_the_photographs_colour(scene, tmp_path):
    """Catches a half-pixel shift between photographs, observations and points."""
    scene.save_colmap(tmp_path / "project", max_points=3000)
    model = pycolmap.Reconstruction(str(tmp_path / "project" / "sparse" / "0"))
    for image in model.images.values():
        pixels = np.array([p.xy for p in image.points2D]) - 0.5
        points = np.array([model.points3D[p.point3D_id].xyz for p in image.points2D])
        photograph = np.asarray(Image.open(tmp_path / "project" / "images" / image.name))
        assert photograph.shape == (SIZE[1], SIZE[0], 3)
        u, v = pixels.astype(np.float32).T
        seen = cv2.remap(photograph, u[None], v[None], cv2.INTER_LINEAR)[0]
        difference = np.abs(seen.astype(float) - paint(points)).max(1)
        assert np.median(difference) <= 1.5
        pose = image.cam_from_world().inverse().matrix()
        index = int(image.name[6])
        np.testing.assert_allclose(pose, scene.cameras[index].cam2world[:3], atol=1e-6)


def test_colmap_replaces_the_model_and_keeps_other_files(scene, tmp_path):
    model = tmp_path / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "frames.bin").write_bytes(b"of another model")
    (tmp_path / "notes.txt").write_text("mine")
    scene.save_colmap(tmp_path, copy_images=False, max_points=500)
    assert not (model / "frames.bin").exists() and (tmp_path / "notes.txt").exists()
    assert not (tmp_path / "images").exists()
    assert pycolmap.Reconstruction(str(model)).num_images() == 3


def test_colmap_refuses_skew(scene, tmp_path):
    skewed = Scene.load(saved(scene, tmp_path))
    skewed.cameras[0].intrinsics[0, 1] = 1.0
    with pytest.raises(ValueError, match="skew"):
        skewed.save_colmap(tmp_path / "project")
    assert not (tmp_path / "project").exists()


def saved(scene, folder):
    scene.save(folder / "scene.npz")
    return folder / "scene.npz"


@pytest.mark.parametrize("depth_format", ["png", "npy"])
def test_nerfstudio_depth_and_cameras_rebuild_the_world(scene, tmp_path, depth_format):
    scene.save_nerfstudio(tmp_path, depth_format=depth_format)
    document = json.loads((tmp_path / "transforms.json").read_text())
    assert document["applied_transform"] == np.eye(4)[:3].tolist()
    for frame in document["frames"]:
        photograph = np.asarray(Image.open(tmp_path / frame["file_path"]))
        assert photograph.shape == (frame["h"], frame["w"], 3) == (SIZE[1], SIZE[0], 3)
        path = tmp_path / frame["depth_file_path"]
        raw = np.load(path) if path.suffix == ".npy" else cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
        depth = raw.astype(np.float64) / 1000
        assert depth.shape == photograph.shape[:2]
        # nerfstudio's rays: pixel (column + 0.5, row + 0.5), OpenGL axes, depth along -z.
        v, u = np.nonzero(depth)
        x = (u + 0.5 - frame["cx"]) / frame["fl_x"]
        y = (v + 0.5 - frame["cy"]) / frame["fl_y"]
        z = depth[v, u]
        local = np.stack([x * z, -y * z, -z, np.ones_like(z)])
        world = (np.array(frame["transform_matrix"]) @ local)[:3].T
        expected, _ = view(pose_of(scene, frame), np.arange(SIZE[0]), np.arange(SIZE[1]))
        error = np.linalg.norm(world - expected[v, u], axis=1) / z
        # Between the pixels of the network's map, depth is interpolated: edges of the room and
        # the limbs of the balls are what a map of this size cannot hold.
        assert len(error) > 0.7 * depth.size and np.quantile(error, 0.9) < TOLERANCE


def pose_of(scene, frame):
    return scene.cameras[int(frame["file_path"][-5])].cam2world.numpy()


def test_nerfstudio_cloud_is_in_the_frame_of_the_cameras(scene, tmp_path):
    scene.save_nerfstudio(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    cloud = trimesh.load(tmp_path / document["ply_file_path"])
    assert distance_to_surfaces(cloud.vertices).max() < 3 * TOLERANCE
    for frame in document["frames"]:
        local = (
            np.linalg.inv(frame["transform_matrix"])
            @ np.c_[cloud.vertices, np.ones(len(cloud.vertices))].T
        )
        u = frame["fl_x"] * local[0] / -local[2] + frame["cx"]
        v = frame["fl_y"] * local[1] / local[2] + frame["cy"]
        inside = (u > 0) & (u < frame["w"]) & (v > 0) & (v < frame["h"])
        assert inside.mean() > 0.5


def test_nerfstudio_chooses_a_depth_format_that_is_precise_enough(scene, tmp_path):
    scene.save_nerfstudio(tmp_path / "metric")
    scene.rescaled(0.05).save_nerfstudio(tmp_path / "small")
    suffixes = {p.parent.parent.name: p.suffix for p in tmp_path.rglob("depths/*")}
    assert suffixes == {"metric": ".png", "small": ".npy"}
    with pytest.raises(ValueError, match="16-bit millimetres"):
        scene.rescaled(50).save_nerfstudio(tmp_path / "large", depth_format="png")


def test_gaussians_follow_the_published_layout(scene, tmp_path):
    scene.save_gaussians(tmp_path / "a.ply")
    data = trimesh.load(tmp_path / "a.ply").metadata["_ply_raw"]["vertex"]["data"]
    cloud = scene.fuse()
    np.testing.assert_array_equal(np.stack([data[a] for a in "xyz"], 1), cloud.points)
    colors = 0.5 + 0.28209479177387814 * np.stack([data[f"f_dc_{k}"] for k in range(3)], 1)
    np.testing.assert_allclose(colors * 255, cloud.colors, atol=1e-3)
    nearest = KDTree(cloud.points).query(cloud.points, k=2)[0][:, 1]
    ratio = np.exp(data["scale_0"]) / nearest
    assert 0.4 < np.median(ratio) < 1 and np.all(data["rot_0"] == 1) and np.all(data["rot_3"] == 0)
    assert 1 / (1 + np.exp(-data["opacity"][0])) == pytest.approx(0.9, abs=1e-6)


def test_tum_trajectory_is_read_by_evo(scene, tmp_path):
    scene.save_tum(tmp_path / "a.txt", timestamps=[0.0, 0.4, 0.8])
    trajectory = file_interface.read_tum_trajectory_file(tmp_path / "a.txt")
    assert trajectory.timestamps.tolist() == [0.0, 0.4, 0.8]
    for ours, camera in zip(trajectory.poses_se3, scene.cameras, strict=True):
        np.testing.assert_allclose(ours, camera.cam2world, atol=1e-7)
    with pytest.raises(ValueError, match="2 timestamps for 3"):
        scene.save_tum(tmp_path / "a.txt", timestamps=[0.0, 1.0])
    with pytest.raises(ValueError, match="increase"):
        scene.save_tum(tmp_path / "a.txt", timestamps=[0.0, 1.0, 1.0])


def test_unknown_suffix_names_the_choices(scene, tmp_path):
    with pytest.raises(ValueError, match=r"\.glb, \.ply, \.npz.*save_colmap"):
        scene.save(tmp_path / "scene.obj")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.glb", "a.ply", "a.npz"])
def test_a_failing_save_keeps_the_earlier_file(scene, tmp_path, name, monkeypatch):
    scene.save(tmp_path / name)
    before = (tmp_path / name).read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        scene.save(tmp_path / name, min_confidence=50)
    assert (tmp_path / name).read_bytes() == before and len(list(tmp_path.iterdir())) == 1
