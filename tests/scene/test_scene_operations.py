import numpy as np
import pytest
import torch
from analytic_scene import SIZE, analytic_scene, distance_to_surfaces, paint, view
from scipy.spatial.transform import Rotation

from croco3d.scene import Camera, Scene
from croco3d.scene.fusion import PointCloud, voxel_filter


@pytest.fixture(scope="module")
def scene():
    return analytic_scene(3)


def flat_scene(confidences):
    """One image of a plane at depth 2 with given confidences `(H, W)`."""
    height, width = confidences.shape
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([u * 0.02, v * 0.02, torch.full_like(u, 2).float()], -1).float()
    camera = Camera(torch.diag(torch.tensor([100.0, 100, 1])), torch.eye(4), width, height)
    return Scene([camera], [points], [points[..., 2].clone()], [confidences])


def test_confidence_is_a_percentile_over_the_whole_scene(scene):
    masks = scene.mask(min_confidence=30)
    kept = sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)
    assert kept == pytest.approx(0.7, abs=0.001)
    kept_min = min(float(c[m].min()) for c, m in zip(scene.confidences, masks, strict=True))
    lost_max = max(float(c[~m].max()) for c, m in zip(scene.confidences, masks, strict=True))
    assert kept_min >= lost_max


def test_constant_confidence_keeps_everything():
    assert flat_scene(torch.ones(5, 6)).mask(min_confidence=90)[0].all()


@pytest.mark.parametrize("value", [-1, 101, float("nan")])
def test_confidence_out_of_range_is_refused(scene, value):
    with pytest.raises(ValueError, match="percentile from 0 to 100"):
        scene.mask(min_confidence=value)


def test_invalid_points_are_masked():
    scene = flat_scene(torch.ones(4, 4))
    scene.pointmaps[0][0, 0, 1] = torch.nan
    scene.depthmaps[0][1, 1] = 0
    scene.depthmaps[0][2, 2] = torch.inf
    assert (~scene.mask()[0]).nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]


def test_flying_pixels_at_depth_edges_go():
    scene = flat_scene(torch.ones(8, 8))
    scene.depthmaps[0][:, 4:] = 4.0
    scene.depthmaps[0][:, 4] = 3.0
    assert scene.mask(remove_edges=True)[0].any(0).tolist() == [True] * 3 + [False] * 3 + [True] * 2


def test_masks_of_photographs_are_carried_to_the_maps(scene):
    mask = torch.zeros(SIZE[1], SIZE[0], dtype=torch.bool)
    mask[100:200, 240:] = True
    kept = scene.with_masks([mask, None, None]).mask()[0].nonzero().flip(-1).double()
    mapped = kept * scene.pixel_to_original[0][0, 0] + scene.pixel_to_original[0][:2, 2]
    assert mapped.min(0).values.numpy() == pytest.approx([240, 100], abs=4)
    assert mapped.max(0).values.numpy() == pytest.approx([SIZE[0] - 1, 199], abs=4)
    assert scene.mask()[0].all()


def test_masks_that_do_not_fit_are_refused(scene):
    with pytest.raises(
        ValueError, match=r"mask of photo_1.png is \(3, 4\); it must be \(360, 480\)"
    ):
        scene.with_masks([None, torch.ones(3, 4), None])
    with pytest.raises(ValueError, match="1 masks for 3"):
        scene.with_masks([None])


def test_scene_refuses_maps_that_do_not_fit():
    scene = flat_scene(torch.ones(4, 6))
    with pytest.raises(ValueError, match=r"depthmaps\[0\] \(image_000\) has shape \(6, 4\)"):
        Scene(scene.cameras, scene.pointmaps, [torch.ones(6, 4)], scene.confidences)
    with pytest.raises(ValueError, match="0 entries for 1 cameras"):
        Scene(scene.cameras, [], [], [])
    with pytest.raises(ValueError, match="intrinsics must have shape"):
        Camera(torch.eye(4), torch.eye(4), 4, 3)


def test_network_intrinsics_see_the_pointmaps(scene):
    for index, camera in enumerate(scene.cameras):
        local = torch.linalg.solve(
            camera.cam2world,
            torch.cat([scene.pointmaps[index].double(), torch.ones(80, 128, 1)], -1)[..., None],
        )[..., :3, 0]
        pixels = local @ scene.network_intrinsics(index).mT
        pixels = pixels[..., :2] / pixels[..., 2:]
        v, u = torch.meshgrid(torch.arange(80), torch.arange(128), indexing="ij")
        assert torch.allclose(pixels, torch.stack([u, v], -1).double(), atol=1e-4)


def test_matches_show_the_same_point_in_original_pixels(scene):
    matches = scene.matches(0, 2)
    assert len(matches) > 1000
    assert (matches.confidence.diff() <= 0).all()
    for pixels in (matches.pixels1, matches.pixels2):
        assert (
            (pixels >= 0).all()
            and (pixels[:, 0] < SIZE[0]).all()
            and (pixels[:, 1] < SIZE[1]).all()
        )
    first = true_points(scene, 0, matches.pixels1)
    second = true_points(scene, 2, matches.pixels2)
    # Pixels of the maps are about 3 cm wide here, and nearest ones up to 0.7 of that apart.
    assert np.median(np.linalg.norm(first - second, axis=1)) < 0.02
    reprojected, _ = scene.cameras[2].project(torch.tensor(first))
    assert (reprojected - matches.pixels2).norm(dim=1).median() < 0.5 * 3.75


def true_points(scene, index, pixels):
    pose = scene.cameras[index].cam2world.numpy()
    return np.stack([view(pose, p[:1], p[1:])[0][0, 0] for p in pixels.numpy()])


def test_matches_of_views_without_overlap_are_none(scene):
    away = scene.transformed(torch.eye(4))
    away.pointmaps[2] = away.pointmaps[2] + 50
    assert len(away.matches(0, 2)) == 0
    assert len(away.matches(0, 2, max_distance=None)) > 0
    with pytest.raises(ValueError, match="Image 3 is not among"):
        scene.matches(0, 3)


def test_voxel_filter_averages_by_confidence():
    points = np.array([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [-0.1, 0.1, 0.1]], dtype=np.float32)
    colors = np.array([[0, 0, 0], [100, 200, 40], [9, 9, 9]], dtype=np.uint8)
    cloud = voxel_filter(PointCloud(points, colors, np.array([1, 3, 2], dtype=np.float32)), 0.5)
    order = np.argsort(cloud.points[:, 0])
    np.testing.assert_allclose(cloud.points[order], [[-0.1, 0.1, 0.1], [0.25, 0.1, 0.1]], atol=1e-6)
    assert cloud.colors[order].tolist() == [[9, 9, 9], [75, 150, 30]]
    assert cloud.confidences[order].tolist() == [2, 3]


def test_voxel_filter_keeps_distant_cells_apart():
    generator = np.random.default_rng(0)
    cells = np.unique(generator.integers(-1000, 1000, (50_000, 3)), axis=0)
    cells = np.concatenate([cells, [[10**9, 0, 0], [-(10**9), 5, 5]]])
    points = ((cells + 0.5) * 0.01).astype(np.float32)
    ones = np.ones(len(points), dtype=np.float32)
    cloud = voxel_filter(PointCloud(points, np.zeros((len(points), 3), np.uint8), ones), 0.01)
    assert len(cloud) == len(points)
    with pytest.raises(ValueError, match="positive length"):
        voxel_filter(cloud, 0)


def test_fusion_stores_overlap_once_on_the_surface(scene):
    every, fused = scene.fuse(voxel_size=None, remove_edges=False), scene.fuse()
    assert len(every) == 3 * 80 * 128
    assert 0.25 * len(every) < len(fused) < 0.7 * len(every)
    assert np.quantile(distance_to_surfaces(fused.points), 0.99) < 1e-3
    assert np.median(np.abs(fused.colors.astype(int) - paint(fused.points))) <= 1


def random_similarity(seed=0, scale=2.5):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = scale * torch.tensor(Rotation.random(random_state=seed).as_matrix())
    matrix[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    return matrix


def test_transforming_keeps_what_cameras_see(scene):
    moved = scene.transformed(random_similarity())
    for index, camera in enumerate(moved.cameras):
        expected, depth = scene.cameras[index].project(scene.pointmaps[index].double())
        pixels, moved_depth = camera.project(moved.pointmaps[index].double())
        assert torch.allclose(pixels, expected, atol=2e-3)
        assert torch.allclose(moved_depth, 2.5 * depth, atol=1e-4)
        assert torch.allclose(moved.depthmaps[index].double(), 2.5 * depth, atol=1e-4)
        assert torch.linalg.det(camera.cam2world[:3, :3]) == pytest.approx(1)
    assert scene.metric and not moved.metric
    back = moved.transformed(torch.linalg.inv(random_similarity()))
    assert torch.allclose(back.pointmaps[1], scene.pointmaps[1], atol=1e-5)


@pytest.mark.parametrize("matrix", [torch.diag(torch.tensor([1.0, 2, 1, 1])), -torch.eye(4)])
def test_only_similarities_transform(scene, matrix):
    with pytest.raises(ValueError, match="similarity"):
        scene.transformed(matrix)


def test_orientation_is_found_from_level_cameras():
    scene = analytic_scene(3)
    turned = scene.transformed(random_similarity(seed=3, scale=1.0))
    for axis, up in (("-y", [0, -1, 0]), ("z", [0, 0, 1])):
        level = turned.oriented(axis)
        assert level.up_axis == axis
        sides = torch.stack([c.cam2world[:3, 0] for c in level.cameras])
        assert (sides @ torch.tensor(up, dtype=torch.float64)).abs().max() < 1e-6
        ups = torch.stack([-c.cam2world[:3, 1] for c in level.cameras])
        assert (ups @ torch.tensor(up, dtype=torch.float64)).min() > 0.99


def test_orientation_of_one_camera_is_its_own(scene):
    single = analytic_scene(1).transformed(random_similarity(seed=5, scale=1.0)).oriented()
    assert torch.allclose(-single.cameras[0].cam2world[:3, 1], torch.tensor([0.0, -1, 0]).double())


def test_opposite_up_turns_by_half(scene):
    turned = scene.oriented("-y", up=torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(turned.pointmaps[0][..., 1], -scene.pointmaps[0][..., 1], atol=1e-6)
    with pytest.raises(ValueError, match="up_axis must be one of"):
        scene.oriented("x")
    with pytest.raises(ValueError, match="no length"):
        scene.oriented(up=torch.zeros(3))


def test_centering_and_scaling(scene):
    centred = scene.centered()
    middle = torch.cat([p.flatten(0, 1) for p in centred.pointmaps]).median(0).values
    assert torch.allclose(middle, torch.zeros(3), atol=1e-5)
    small = scene.rescaled(0.1)
    assert torch.allclose(small.depthmaps[0], scene.depthmaps[0] * 0.1) and not small.metric
    assert scene.rescaled(0.1, metric=True).metric
    with pytest.raises(ValueError, match="positive factor"):
        scene.rescaled(-1)


def test_splats_cover_their_pixels(scene):
    mesh = scene.mesh(method="splats")
    kept = scene.mask(remove_edges=True)
    assert len(mesh) == 2 * sum(int(mask.sum()) for mask in kept)
    squares = torch.tensor(mesh.vertices).view(-1, 4, 3)[: int(kept[0].sum())]
    pixels, depth = scene.cameras[0].project(squares)
    assert (depth - depth[:, :1]).abs().max() < 1e-5
    to_map = torch.linalg.inv(scene.pixel_to_original[0].double())
    pixels = pixels.double() @ to_map[:2, :2].T + to_map[:2, 2]
    v, u = kept[0].nonzero().double().unbind(1)
    expected = torch.stack([u, v], -1)[:, None] + torch.tensor(
        [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    )
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("method", "error"), [("tsdf", 0.01), ("poisson", 0.03)])
def test_open3d_surfaces_lie_on_the_truth(scene, method, error):
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError):
        pytest.skip("Open3D is not installed")
    mesh = scene.mesh(method=method)
    distances = distance_to_surfaces(mesh.vertices)
    assert len(mesh) > 1000 and np.median(distances) < error
    near = distances < 0.05
    assert near.mean() > 0.85
    # Colours are smooth in space, a voxel apart they differ by a few levels.
    apart = np.abs(mesh.colors[near].astype(int) - paint(mesh.vertices[near]))
    assert np.median(apart) < 10


def test_unknown_mesh_method_and_missing_open3d(scene, monkeypatch):
    with pytest.raises(ValueError, match="'splats', 'tsdf' or 'poisson'"):
        scene.mesh(method="marching")
    monkeypatch.setitem(__import__("sys").modules, "open3d", None)
    with pytest.raises(ImportError, match=r'pip install "croco3d\[mesh\]"'):
        scene.mesh(method="tsdf")
