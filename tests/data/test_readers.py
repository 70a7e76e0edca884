"""Every reader on a miniature of its published raw layout, written here from the layout's text."""

import gzip
import json
import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from plane_scene import check_source, plane_depth, plane_source, plane_views, rotation
from scipy.spatial.transform import Rotation

from croco3d.data import READERS, make_source
from croco3d.data.loading import load_frame
from croco3d.data.pairing import save_pairs


def write_image(path, array, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **more)


def write_millimetres(path, depth):
    write_image(path, (np.asarray(depth) * 1000).round().astype(np.uint16))


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def numbers(array):
    return " ".join(repr(float(value)) for value in np.asarray(array).ravel())


def write_float3(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "float\n" + f"{array.ndim}\n" + "".join(f"{side}\n" for side in array.shape[::-1])
    path.write_bytes(head.encode() + np.asarray(array, "<f4").tobytes())


def write_pfm(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Pf\n{array.shape[1]} {array.shape[0]}\n-1.0\n".encode()
    path.write_bytes(head + np.asarray(array[::-1], "<f4").tobytes())


def write_colmap_text(folder, views, points, model="PINHOLE", extra=()):
    """cameras.txt and images.txt by COLMAP's documentation; one camera for all."""
    k = views[0].intrinsics
    h, w = views[0].image.shape[:2]
    params = [k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5, *extra]
    write_text(folder / "cameras.txt", f"# Camera list\n1 {model} {w} {h} {numbers(params)}\n")
    lines = ["# Image list with two lines of data per image:"]
    for i, view in enumerate(views):
        world2cam = np.linalg.inv(view.cam2world)
        q = Rotation.from_matrix(world2cam[:3, :3]).as_quat(scalar_first=True)
        lines.append(f"{i + 1} {numbers(q)} {numbers(world2cam[:3, 3])} 1 {view.name}.jpg")
        lines.append(" ".join(f"1.0 2.0 {point}" for point in points[i]))
    write_text(folder / "images.txt", "\n".join(lines) + "\n")


def write_colmap_binary(folder, views, points):
    """cameras.bin and images.bin by COLMAP's documentation."""
    folder.mkdir(parents=True, exist_ok=True)
    k = views[0].intrinsics
    h, w = views[0].image.shape[:2]
    camera = struct.pack("<iiQQ4d", 1, 1, w, h, k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    data = struct.pack("<Q", len(views))
    for i, view in enumerate(views):
        world2cam = np.linalg.inv(view.cam2world)
        q = Rotation.from_matrix(world2cam[:3, :3]).as_quat(scalar_first=True)
        data += struct.pack("<i7di", i + 1, *q, *world2cam[:3, 3], 1)
        data += f"{view.name}.jpg".encode() + b"\0" + struct.pack("<Q", len(points[i]))
        for point in points[i]:
            data += struct.pack("<ddq", 1.0, 2.0, point)
    (folder / "images.bin").write_bytes(data)


# Views 0, 1 and 1, 2 share half their points, 0 and 2 none; -1 is a point that was not kept.
POINTS = [[1, 2, 3, 4, -1], [3, 4, 5, 6], [5, 6, 7, 8, -1, -1]]


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_models_with_their_own_dense_depth(tmp_path, binary):
    views = plane_views()
    (write_colmap_binary if binary else write_colmap_text)(tmp_path / "sparse", views, POINTS)
    for view in views:
        write_image(tmp_path / "images" / f"{view.name}.jpg", view.image, quality=98)
        h, w = view.depth.shape
        data = f"{w}&{h}&1&".encode() + view.depth.astype("<f4").tobytes()
        path = tmp_path / "stereo/depth_maps" / f"{view.name}.jpg.geometric.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    source = make_source({"reader": "colmap", "root": str(tmp_path), "min_shared": 0.3})
    check_source(source, views, [(0, 1), (1, 2)])


def test_colmap_text_reader_agrees_with_pycolmap(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    from croco3d.data.readers.colmap_model import read_colmap

    cameras = {
        "SIMPLE_PINHOLE": [500, 320, 240],
        "SIMPLE_RADIAL": [500, 320, 240, -0.1],
        "RADIAL": [500, 320, 240, -0.1, 0.02],
        "OPENCV": [500, 510, 320, 240, -0.1, 0.02, 0.003, -0.002],
        "FULL_OPENCV": [500, 510, 320, 240, -0.1, 0.02, 0.003, -0.002, 0.01, 0.02, 0.03, 0.01],
        "OPENCV_FISHEYE": [500, 510, 320, 240, -0.05, 0.01, 0.002, -0.001],
        "SIMPLE_RADIAL_FISHEYE": [500, 320, 240, -0.05],
        "RADIAL_FISHEYE": [500, 320, 240, -0.05, 0.01],
    }
    lines = [
        f"{i} {name} 640 480 {' '.join(map(str, params))}"
        for i, (name, params) in enumerate(cameras.items(), start=1)
    ]
    write_text(tmp_path / "cameras.txt", "\n".join(lines))
    write_text(tmp_path / "images.txt", "")
    ours, _ = read_colmap(tmp_path)
    rays = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
    points = np.concatenate((rays, np.ones((50, 1))), axis=1)
    for number, (name, params) in enumerate(cameras.items(), start=1):
        theirs = pycolmap.Camera(model=name, width=640, height=480, params=params)
        lens = ours[number].distortion
        lens = np.zeros(4) if lens is None else lens
        project = cv2.fisheye.projectPoints if ours[number].fisheye else cv2.projectPoints
        zero = np.zeros(3)
        pixels = project(points[:, None], zero, zero, ours[number].intrinsics, lens)[0]
        expected = np.stack([theirs.img_from_cam(point) for point in points]).reshape(-1, 2)
        np.testing.assert_allclose(pixels.reshape(-1, 2) + 0.5, expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".exr", ".h5", ".pfm", ".tif"])
def test_depth_formats(tmp_path, suffix):
    views = plane_views()
    write_colmap_text(tmp_path / "sparse/0", views, POINTS)
    for view in views:
        write_image(tmp_path / "images" / f"{view.name}.jpg", view.image, quality=98)
        path = tmp_path / "depths" / f"{view.name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".png":
            write_millimetres(path, view.depth)
        elif suffix == ".tif":
            Image.fromarray((view.depth * 1000).astype(np.float32)).save(path)
        elif suffix == ".npy":
            np.save(path, view.depth.astype(np.float16))
        elif suffix == ".npz":
            np.savez(path, depth=view.depth, confidence=np.ones(3))
        elif suffix == ".pfm":
            write_pfm(path, view.depth)
        elif suffix == ".h5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(path, "w") as file:
                file["depth"] = view.depth
        else:
            openexr = pytest.importorskip("OpenEXR")
            openexr.File({}, {"Y": view.depth}).write(str(path))
    check_source(make_source({"reader": "colmap", "root": tmp_path}), views, [(0, 1), (1, 2)])


def write_nerfstudio(root, views, depth=".png", **more):
    opengl = np.diag([1.0, -1, -1, 1])
    k = views[0].intrinsics
    h, w = views[0].image.shape[:2]
    meta = {"camera_model": "OPENCV", "w": w, "h": h, "fl_x": k[0, 0], "fl_y": k[1, 1]}
    meta |= {"cx": k[0, 2] + 0.5, "cy": k[1, 2] + 0.5, "frames": []} | more
    for view in views:
        write_image(root / "images" / f"{view.name}.png", view.image)
        path = f"depth/{view.name}{depth}"
        (root / "depth").mkdir(exist_ok=True)
        if depth == ".png":
            write_millimetres(root / path, view.depth)
        else:
            np.save(root / path, view.depth * 1000)
        entry = {"file_path": f"images/{view.name}.png", "depth_file_path": path}
        meta["frames"].append(entry | {"transform_matrix": (view.cam2world @ opengl).tolist()})
    write_text(root / "transforms.json", json.dumps(meta))


@pytest.mark.parametrize("depth", [".png", ".npy"])
def test_nerfstudio(tmp_path, depth):
    views = plane_views()
    write_nerfstudio(tmp_path, views, depth)
    check_source(make_source({"reader": "nerfstudio", "root": tmp_path}), views)


@pytest.mark.parametrize(("model", "count"), [("SIMPLE_RADIAL", 1), ("RADIAL", 2)])
def test_nerfstudio_radial_cameras_are_opencvs_with_fewer_coefficients(tmp_path, model, count):
    views = plane_views()
    lens = {"k1": -0.05, "k2": 0.01, "p1": 0.3}
    write_nerfstudio(tmp_path, views, camera_model=model, **lens)
    found = make_source({"reader": "nerfstudio", "root": tmp_path}).frames[0].distortion
    assert found is not None
    np.testing.assert_allclose(found, ([-0.05, 0.01][:count] + [0, 0, 0])[:4])


def test_nerfstudio_frame_without_a_pose_is_named(tmp_path):
    write_nerfstudio(tmp_path, plane_views())
    path = tmp_path / "transforms.json"
    meta = json.loads(path.read_text())
    del meta["frames"][1]["transform_matrix"]
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="no 'transform_matrix'.*file_path"):
        make_source({"reader": "nerfstudio", "root": tmp_path})


def test_nerfstudio_pairs_file_scale_mask_and_frames_without_depth(tmp_path):
    views = plane_views()
    write_nerfstudio(tmp_path, views, depth_unit_scale_factor=2e-3)
    path = tmp_path / "transforms.json"
    meta = json.loads(path.read_text())
    del meta["frames"][1]["depth_file_path"]
    mask = np.zeros(views[0].image.shape[:2], np.uint8)
    mask[:, 20:] = 255
    write_image(tmp_path / "mask.png", mask)
    meta["frames"][0]["mask_path"] = "mask.png"
    path.write_text(json.dumps(meta))
    names = ["images/view0.png", "images/view2.png"]
    for file in ("pairs.npz", "pairs.json"):
        save_pairs(tmp_path / file, names, np.array([[1, 0]]), np.array([0.5]))
        source = make_source({"reader": "nerfstudio", "root": tmp_path, "pairs": tmp_path / file})
        assert [frame.name for frame in source.frames] == names
        assert source.pairs.tolist() == [[1, 0]]
        loaded = load_frame(source.frames[0])
        assert not loaded.depth[:, :20].any()
        np.testing.assert_allclose(loaded.depth[:, 20:], 2 * views[0].depth[:, 20:], atol=2e-3)
    save_pairs(tmp_path / "bad.npz", ["gone.png", *names], np.array([[0, 1]]), np.array([0.5]))
    with pytest.raises(ValueError, match="gone.png"):
        make_source({"reader": "nerfstudio", "root": tmp_path, "pairs": tmp_path / "bad.npz"})


def test_images_stored_smaller_than_the_calibration(tmp_path):
    views, big = plane_views(size=(48, 36)), plane_views(size=(96, 72))
    write_nerfstudio(tmp_path, big)
    for view in views:
        write_image(tmp_path / "images" / f"{view.name}.png", view.image)
    loaded = load_frame(make_source({"reader": "nerfstudio", "root": tmp_path}).frames[0])
    # The same place of the image: (u + 0.5) / width stays.
    k = big[0].intrinsics
    np.testing.assert_allclose(loaded.intrinsics[0, 2], (k[0, 2] + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(loaded.intrinsics[[0, 1], [0, 1]], k[[0, 1], [0, 1]] / 2)


@pytest.mark.parametrize("kind", ["ndc_isotropic", "ndc_norm_image_bounds"])
@pytest.mark.parametrize("size", [(48, 36), (36, 48)])
def test_co3d(tmp_path, kind, size):
    views = plane_views(4, size=size)
    w, h = size
    half = np.array([min(w, h)] * 2 if kind == "ndc_isotropic" else [w, h]) / 2
    entries = []
    for i, view in enumerate(views):
        sequence = "10_20_30" if i < 2 else "40_50_60"
        base = f"apple/{sequence}"
        write_image(tmp_path / base / f"images/frame{i:06d}.jpg", view.image, quality=98)
        bits = (view.depth / 1.5).astype(np.float16).view(np.uint16)
        write_image(tmp_path / base / f"depths/frame{i:06d}.jpg.geometric.png", bits)
        mask = np.full((h, w), 255, np.uint8)
        write_image(tmp_path / base / f"depth_masks/frame{i:06d}.png", mask)
        mask[: h // 2] = 30
        write_image(tmp_path / base / f"masks/frame{i:06d}.png", mask)
        # PyTorch3D: X_cam = X_world @ R + T, x to the left, y up.
        world2cam = np.diag([-1.0, -1, 1, 1]) @ np.linalg.inv(view.cam2world)
        k = view.intrinsics
        viewpoint = {
            "R": world2cam[:3, :3].T.tolist(),
            "T": world2cam[:3, 3].tolist(),
            "focal_length": (k[[0, 1], [0, 1]] / half).tolist(),
            "principal_point": ((np.array([w, h]) / 2 - k[:2, 2] - 0.5) / half).tolist(),
            "intrinsics_format": kind,
        }
        depth = {"path": f"{base}/depths/frame{i:06d}.jpg.geometric.png", "scale_adjustment": 1.5}
        depth["mask_path"] = f"{base}/depth_masks/frame{i:06d}.png"
        entries.append(
            {
                "sequence_name": sequence,
                "frame_number": i,
                "image": {"path": f"{base}/images/frame{i:06d}.jpg", "size": [h, w]},
                "depth": depth,
                "mask": {"path": f"{base}/masks/frame{i:06d}.png"},
                "viewpoint": viewpoint,
            }
        )
    with gzip.open(tmp_path / "apple/frame_annotations.jgz", "wt") as file:
        json.dump(entries, file)
    lists = {"train": [["10_20_30", 0, ""], ["10_20_30", 1, ""]], "val": []}
    write_text(tmp_path / "apple/set_lists/set_lists_fewview_dev.json", json.dumps(lists))
    check_source(make_source({"reader": "co3d", "root": tmp_path}), views, [(0, 1), (2, 3)])
    chosen = {"reader": "co3d", "root": tmp_path, "subset": "fewview_dev", "foreground": True}
    source = make_source(chosen)
    assert len(source.frames) == 2
    loaded = load_frame(source.frames[0])
    assert not loaded.depth[: h // 2].any() and loaded.depth[h // 2 :].all()


def test_wildrgbd(tmp_path):
    views = plane_views()
    scene = tmp_path / "apple/scenes/scene_007"
    lines = []
    for i, view in enumerate(views):
        write_image(scene / f"rgb/{i:05d}.png", view.image)
        write_millimetres(scene / f"depth/{i:05d}.png", view.depth)
        write_image(scene / f"masks/{i:05d}.png", np.full(view.depth.shape, 255, np.uint8))
        lines.append(f"{i} {numbers(view.cam2world)}")
    write_text(scene / "cam_poses.txt", "\n".join(lines))
    h, w = views[0].depth.shape
    meta = {"w": w, "h": h, "K": views[0].intrinsics.T.ravel().tolist()}
    write_text(scene / "metadata", json.dumps(meta))
    lists = {"train": ["scenes/scene_007"], "val": []}
    write_text(tmp_path / "apple/camera_eval_list.json", json.dumps(lists))
    source = make_source({"reader": "wildrgbd", "root": tmp_path, "split": "train"})
    check_source(source, views)
    assert len(make_source({"reader": "wildrgbd", "root": tmp_path, "foreground": True}).pairs) == 3
    with pytest.raises(ValueError, match="no pair"):
        make_source({"reader": "wildrgbd", "root": tmp_path, "split": "val"})
    with pytest.raises(ValueError, match="no 'test'; it has train, val"):
        make_source({"reader": "wildrgbd", "root": tmp_path, "split": "test"})


def test_arkitscenes(tmp_path):
    views = plane_views(size=(64, 48))
    folder = tmp_path / "Training/47333462"
    trajectory = []
    for i, view in enumerate(views):
        time = 1000.1 * 1 + 0.1 * i
        stem = f"47333462_{time:.3f}"
        write_image(folder / f"vga_wide/{stem}.png", view.image)
        k = view.intrinsics
        write_text(
            folder / f"vga_wide_intrinsics/47333462_{time + 0.001:.3f}.pincam",
            f"64 48 {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}",
        )
        v, u = np.indices((24, 32)) * 2 + 0.5
        write_millimetres(folder / f"lowres_depth/{stem}.png", plane_depth(k, view.cam2world, u, v))
        confidence = np.full((24, 32), 2, np.uint8)
        confidence[:, 0] = 1
        write_image(folder / f"confidence/{stem}.png", confidence)
        world2cam = np.linalg.inv(view.cam2world)
        vector = Rotation.from_matrix(world2cam[:3, :3]).as_rotvec()
        trajectory.append(f"{time + 0.002} {numbers(vector)} {numbers(world2cam[:3, 3])}")
    # A picture without a pose of its time is left out.
    write_image(folder / "vga_wide/47333462_1009.000.png", views[0].image)
    write_text(folder / "lowres_wide.traj", "\n".join(trajectory))
    source = make_source({"reader": "arkitscenes", "root": tmp_path, "strides": [1]})
    check_source(source, views, [(0, 1), (1, 2)], depth=0.02)
    assert not load_frame(source.frames[0]).depth[:, 0].any()


def test_blendedmvs(tmp_path):
    views = plane_views()
    scene = tmp_path / "5a3ca9cb270f0e3f14d0eddb"
    for i, view in enumerate(views):
        write_image(scene / f"blended_images/{i:08d}.jpg", view.image, quality=98)
        write_pfm(scene / f"rendered_depth_maps/{i:08d}.pfm", view.depth)
        rows = ["extrinsic", *map(numbers, np.linalg.inv(view.cam2world)), "", "intrinsic"]
        rows += [*map(numbers, view.intrinsics), "", "0.5 0.01 128 5.0"]
        write_text(scene / f"cams/{i:08d}_cam.txt", "\n".join(rows))
    pairs = "3\n0\n2 1 2.5 2 0.5\n1\n1 0 2.5\n2\n0\n"
    write_text(scene / "cams/pair.txt", pairs)
    write_text(tmp_path / "list.txt", scene.name)
    for more in ({}, {"scene_list": tmp_path / "list.txt"}):
        source = make_source({"reader": "blendedmvs", "root": tmp_path} | more)
        check_source(source, views, [(0, 1), (0, 2)])
    one = make_source({"reader": "blendedmvs", "root": tmp_path, "neighbours": 1})
    assert one.pairs.tolist() == [[0, 1]]


@pytest.mark.parametrize("undistorted", [False, True])
def test_megadepth(tmp_path, undistorted):
    h5py = pytest.importorskip("h5py")
    views = plane_views()
    folder = tmp_path / "phoenix/S6/zl548/MegaDepth_v1/0022/dense0"
    for view in views:
        write_image(folder / f"imgs/{view.name}.jpg", view.image, quality=98)
        (folder / "depths").mkdir(exist_ok=True)
        with h5py.File(folder / f"depths/{view.name}.h5", "w") as file:
            file["depth"] = view.depth
        if undistorted:
            path = tmp_path / f"Undistorted_SfM/0022/images/{view.name}.jpg"
            write_image(path, view.image, quality=98)
    sparse = "MegaDepth_v1_SfM/0022/sparse/manhattan/0"
    sparse = "Undistorted_SfM/0022/sparse-txt" if undistorted else sparse
    write_colmap_text(tmp_path / sparse, views, POINTS)
    spec = {"reader": "megadepth", "root": tmp_path, "scenes": ["0022/0"], "smallest_file": 0}
    check_source(make_source(spec), views, [(0, 1), (1, 2)])
    # Without real depth (tiny files) nothing is left.
    with pytest.raises(ValueError, match="no pair"):
        make_source(spec | {"smallest_file": 10**6})


@pytest.mark.parametrize("device", ["dslr", "iphone"])
def test_scannetpp(tmp_path, device):
    views = plane_views()
    base = tmp_path / "data/036bce3393" / device
    images, masks = {
        "dslr": ("resized_images", "resized_anon_masks"),
        "iphone": ("rgb", "rgb_masks"),
    }[device]
    for view in views:
        write_image(base / images / f"{view.name}.jpg", view.image, quality=98)
        write_millimetres(base / "render_depth" / f"{view.name}.png", view.depth)
    mask = np.full(views[0].depth.shape, 255, np.uint8)
    mask[0] = 0
    write_image(base / masks / "view0.png", mask)
    model = {"dslr": "OPENCV_FISHEYE", "iphone": "OPENCV"}[device]
    write_colmap_text(base / "colmap", views, POINTS, model, (0, 0, 0, 0))
    if device == "iphone":
        path = base / "colmap/images.txt"
        path.write_text(path.read_text().replace(" view", " video/view"))
    source = make_source({"reader": "scannetpp", "root": tmp_path, "device": device})
    if device == "iphone":
        check_source(source, views, [(0, 1), (1, 2)])
    else:
        # Without distortion OpenCV's fisheye still is one; its undistortion is tested elsewhere.
        assert source.frames[0].fisheye and source.frames[0].distortion is None
    assert not load_frame(source.frames[0]).depth[0].any()


def test_habitat(tmp_path):
    views = plane_views(4)
    for i, view in enumerate(views):
        stem = f"scene/0000000{i // 2}_{i % 2 + 1}"
        write_image(tmp_path / f"{stem}.jpeg", view.image, quality=98)
        if i % 2:
            np.save(tmp_path / f"{stem}_depth.npy", view.depth)
        else:
            openexr = pytest.importorskip("OpenEXR")
            openexr.File({}, {"Y": view.depth}).write(str(tmp_path / f"{stem}_depth.exr"))
        camera = {
            "camera_intrinsics": view.intrinsics.tolist(),
            "R_cam2world": view.cam2world[:3, :3].tolist(),
            "t_cam2world": view.cam2world[:3, 3].tolist(),
        }
        write_text(tmp_path / f"{stem}_camera_params.json", json.dumps(camera))
    check_source(make_source({"reader": "habitat", "root": tmp_path}), views, [(0, 1), (2, 3)])


def test_staticthings3d(tmp_path):
    views = plane_views()
    for i, view in enumerate(views, start=6):
        place = "TRAIN/A/0000"
        write_image(tmp_path / f"frames_finalpass/{place}/left/{i:04d}.png", view.image)
        write_float3(tmp_path / f"depths/{place}/left/{i:04d}.float3", view.depth)
        world2cam = np.linalg.inv(view.cam2world)
        write_float3(tmp_path / f"poses/{place}/left/{i:04d}.float3", world2cam)
        write_float3(tmp_path / f"intrinsics/{place}/{i:04d}.float3", view.intrinsics)
    spec = {"reader": "staticthings3d", "root": tmp_path, "strides": [1, 2]}
    check_source(make_source(spec), views, [(0, 1), (1, 2), (0, 2)])


def test_waymo(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    views = plane_views(size=(96, 72))
    far = np.array([12345.0, -6789.0, 20.0])
    write_waymo(tmp_path, views, far, pa, parquet)
    source = make_source({"reader": "waymo", "root": tmp_path, "strides": [1, 2]})
    assert sorted(map(tuple, source.pairs.tolist())) == [(0, 1), (0, 2), (1, 2)]
    first = None
    for frame, truth in zip(source.frames, views, strict=True):
        loaded = load_frame(frame)
        np.testing.assert_allclose(loaded.intrinsics, truth.intrinsics, atol=1e-9)
        np.testing.assert_allclose(loaded.cam2world[:3, :3], truth.cam2world[:3, :3], atol=1e-9)
        offset = loaded.cam2world[:3, 3] - truth.cam2world[:3, 3]
        first = offset if first is None else first
        np.testing.assert_allclose(offset, first, atol=1e-8)
        # The lidar measured the plane; its points land in the pixels that they came from.
        v, u = np.nonzero(loaded.depth)
        assert len(u) > 300
        expected = plane_depth(truth.intrinsics, truth.cam2world, u.astype(float), v.astype(float))
        error = np.abs(loaded.depth[v, u] - expected)
        # Half a pixel of the plane's slope, and float32 at global coordinates.
        assert error.max() < 0.02
        assert np.abs(loaded.image.astype(int) - truth.image).max() < 60


def write_waymo(root, views, far, pa, parquet):
    """Parquet components whose lidar measures the plane from a vehicle somewhere in the world."""
    from plane_scene import DISTANCE, NORMAL

    k, (h, w) = views[0].intrinsics, views[0].depth.shape
    cv_to_waymo = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    mount = np.eye(4)
    mount[:3, :3], mount[:3, 3] = rotation(0.02, -0.03, 0.05), (1.5, 0.1, 2.0)
    laser = np.eye(4)
    laser[:3, :3], laser[:3, 3] = rotation(0, 0, 0.4), (1.4, 0.0, 2.1)
    segment, key = "seg", "key.segment_context_name"
    tables = {
        name: [] for name in ("camera_image", "lidar", "lidar_pose", "lidar_camera_projection")
    }
    beams = np.linspace(-0.6, 0.6, 40)
    for i, view in enumerate(views):
        shift = np.eye(4)
        shift[:3, 3] = far
        vehicle = shift @ view.cam2world @ np.linalg.inv(mount @ cv_to_waymo)
        lidar2world = np.linalg.inv(shift) @ vehicle @ laser
        columns = 240
        azimuth = np.pi - (np.arange(columns) + 0.5) * 2 * np.pi / columns
        azimuth = azimuth - 0.4
        inclination = beams[::-1][:, None]
        level, up = np.cos(inclination), np.sin(inclination)
        parts = np.broadcast_arrays(level * np.cos(azimuth), level * np.sin(azimuth), up)
        rays = np.stack(parts, -1)
        world = rays @ lidar2world[:3, :3].T
        distance = (DISTANCE - lidar2world[:3, 3] @ NORMAL) / (world @ NORMAL)
        hit = (distance > 0) & (distance < 30)
        distance = np.where(hit, distance, -1)
        points = lidar2world[:3, 3] + distance[..., None] * world
        local = (points - view.cam2world[:3, 3]) @ view.cam2world[:3, :3]
        pixel = local @ k.T
        pixel = pixel[..., :2] / np.where(np.abs(pixel[..., 2:]) < 1e-6, 1, pixel[..., 2:])
        inside = (
            hit
            & (local[..., 2] > 0.1)
            & (pixel >= -0.5).all(-1)
            & (pixel < [w - 0.5, h - 0.5]).all(-1)
        )
        projection = np.zeros((*distance.shape, 6), np.float32)
        projection[..., 0] = inside
        projection[..., 1:3] = np.where(inside[..., None], pixel + 0.5, 0)
        poses = np.zeros((*distance.shape, 6), np.float32)
        poses[..., :3] = Rotation.from_matrix(vehicle[:3, :3]).as_euler("ZYX")[::-1]
        poses[..., 3:] = vehicle[:3, 3]
        returns = np.zeros((*distance.shape, 4), np.float32)
        returns[..., 0] = distance
        path = root / "jpeg.jpg"
        write_image(path, view.image, quality=98)
        keys = {key: segment, "key.frame_timestamp_micros": 1000 + i}
        tables["camera_image"].append(
            keys
            | {
                "key.camera_name": 1,
                "[CameraImageComponent].image": path.read_bytes(),
                "[CameraImageComponent].pose.transform": vehicle.ravel().tolist(),
            }
        )
        for name, column, values in (
            ("lidar", "LiDARComponent", returns),
            ("lidar_pose", "LiDARPoseComponent", poses),
            ("lidar_camera_projection", "LiDARCameraProjectionComponent", projection),
        ):
            prefix = f"[{column}].range_image_return1"
            tables[name].append(
                keys
                | {
                    "key.laser_name": 1,
                    f"{prefix}.values": values.ravel().tolist(),
                    f"{prefix}.shape": list(values.shape),
                }
            )
    prefix = "[CameraCalibrationComponent]"
    intrinsic = {"f_u": k[0, 0], "f_v": k[1, 1], "c_u": k[0, 2] + 0.5, "c_v": k[1, 2] + 0.5}
    intrinsic |= dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), 0.0)
    tables["camera_calibration"] = [
        {
            key: segment,
            "key.camera_name": 1,
            f"{prefix}.width": w,
            f"{prefix}.height": h,
            f"{prefix}.extrinsic.transform": mount.ravel().tolist(),
        }
        | {f"{prefix}.intrinsic.{name}": float(value) for name, value in intrinsic.items()}
    ]
    prefix = "[LiDARCalibrationComponent]"
    tables["lidar_calibration"] = [
        {
            key: segment,
            "key.laser_name": 1,
            f"{prefix}.extrinsic.transform": laser.ravel().tolist(),
            f"{prefix}.beam_inclination.min": -0.6,
            f"{prefix}.beam_inclination.max": 0.6,
            f"{prefix}.beam_inclination.values": beams.tolist(),
        }
    ]
    for name, rows in tables.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), root / name / f"{segment}.parquet")


def test_every_reader_is_tested_here_and_documented():
    import inspect

    from croco3d.data import readers

    here = inspect.getsource(inspect.getmodule(test_every_reader_is_tested_here_and_documented))
    built_in = {
        name
        for name in READERS
        if name in vars(readers) and READERS[name].__module__.startswith(readers.__name__)
    }
    assert len(built_in) == 11
    for name in built_in:
        assert f'"reader": "{name}"' in here, name
        text = READERS[name].__doc__
        assert "Licence:" in text and ("Layout" in text or "Download" in text), name


def test_errors_name_what_is_missing_and_near_matches(tmp_path):
    with pytest.raises(ValueError, match="'nerfstudio'"):
        make_source({"reader": "nerfstudo", "root": tmp_path})
    with pytest.raises(ValueError, match="'depth_scale'"):
        make_source({"reader": "nerfstudio", "root": tmp_path, "depth_scales": 1})
    with pytest.raises(ValueError, match="root"):
        make_source({"reader": "nerfstudio"})
    with pytest.raises(ValueError, match="names no reader"):
        make_source({"root": tmp_path})
    with pytest.raises(FileNotFoundError, match="transforms.json"):
        make_source({"reader": "nerfstudio", "root": tmp_path})
    with pytest.raises(FileNotFoundError, match="COLMAP"):
        make_source({"reader": "colmap", "root": tmp_path})
    views = plane_views()
    write_nerfstudio(tmp_path, views, camera_model="EQUIRECTANGULAR")
    with pytest.raises(ValueError, match="EQUIRECTANGULAR"):
        make_source({"reader": "nerfstudio", "root": tmp_path})


def test_damaged_files_say_which_they_are(tmp_path):
    from croco3d.data.depth_files import load_depth

    write_nerfstudio(tmp_path, plane_views())
    frames = make_source({"reader": "nerfstudio", "root": tmp_path}).frames
    (tmp_path / "depth/view0.png").write_bytes(b"")
    (tmp_path / "images/view1.png").write_bytes((tmp_path / "images/view1.png").read_bytes()[:300])
    (tmp_path / "depth/view2.png").unlink()
    for frame, name in zip(frames, ("view0", "view1", "view2"), strict=True):
        with pytest.raises((ValueError, OSError, SyntaxError), match=name):
            load_frame(frame)
    write_nerfstudio(tmp_path, plane_views())
    (tmp_path / "depth/view0.png").write_bytes((tmp_path / "depth/view0.png").read_bytes()[:300])
    with pytest.raises(ValueError, match="depth/view0.png is damaged"):
        load_frame(frames[0])
    np.save(tmp_path / "cut.npy", np.ones((4, 5), np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut.npy is damaged"):
        load_depth(tmp_path / "cut.npy")
    write_pfm(tmp_path / "cut.pfm", np.ones((4, 5), np.float32))
    (tmp_path / "cut.pfm").write_bytes((tmp_path / "cut.pfm").read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut.pfm is cut short"):
        load_depth(tmp_path / "cut.pfm")
    with pytest.raises(ValueError, match="not known"):
        load_depth(tmp_path / "depth.xyz")


def test_rotated_depth_is_refused():
    source = plane_source()
    from dataclasses import replace

    with pytest.raises(ValueError, match="same rectangle"):
        load_frame(replace(source.frames[0], depth=np.asarray(source.frames[0].depth).T))
