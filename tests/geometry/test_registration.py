import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from croco3d.geometry import (
    depth_edges,
    depth_to_pointmap,
    estimate_focal,
    fast_reciprocal_matches,
    intrinsics_matrix,
    nearest_neighbours,
    normals,
    pixel_grid,
    pose_from_parts,
    pose_from_pointmaps,
    project,
    projective_matches,
    reciprocal_matches,
    rotation_angle,
    solve_pnp,
    transform_points,
)

HEIGHT, WIDTH = 24, 32
CAMERA = intrinsics_matrix(torch.tensor(40.0), torch.tensor([15.0, 12.5]))
POSE = pose_from_parts(
    torch.from_numpy(Rotation.from_euler("xyz", [5, 20, -3], degrees=True).as_matrix()).float(),
    torch.tensor([0.7, -0.1, 0.2]),
)


def bumpy_depth(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 + torch.rand(HEIGHT, WIDTH, generator=generator)


def test_pnp_finds_the_pose_despite_outliers_and_is_repeatable():
    points = depth_to_pointmap(bumpy_depth(), CAMERA, POSE)
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(HEIGHT, WIDTH, generator=generator) < 0.4
    points[wrong] += 2 * torch.randn(int(wrong.sum()), 3, generator=generator)
    result = solve_pnp(points, None, CAMERA, threshold=1.0, max_points=500, seed=4)
    assert result.success
    torch.testing.assert_close(result.cam2world, POSE, atol=1e-3, rtol=0)
    assert result.inliers[~wrong].all()
    assert result.inliers[wrong].float().mean() < 0.1
    again = solve_pnp(points, None, CAMERA, threshold=1.0, max_points=500, seed=4)
    assert torch.equal(result.cam2world, again.cam2world)


def test_pnp_uses_the_most_confident_points():
    points = depth_to_pointmap(bumpy_depth(), CAMERA, POSE)
    confidence = torch.ones(HEIGHT, WIDTH)
    confidence[:20] = 0.1
    points[:20] = torch.randn(20, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    result = solve_pnp(points, None, CAMERA, confidence=confidence, keep=4 / HEIGHT, iterations=5)
    torch.testing.assert_close(result.cam2world, POSE, atol=1e-3, rtol=0)
    masked = solve_pnp(points, None, CAMERA, mask=confidence > 0.5, iterations=5)
    torch.testing.assert_close(masked.cam2world, POSE, atol=1e-3, rtol=0)


def test_failed_pnp_says_why():
    few = solve_pnp(torch.rand(4, 3), torch.rand(4, 2), CAMERA)
    assert not few.success
    assert "4 usable points" in few.reason
    assert few.cam2world.isnan().all()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 3, generator=generator)
    pixels = torch.rand(200, 2, generator=generator) * 30
    hopeless = solve_pnp(noise, pixels, CAMERA, threshold=0.05)
    assert not hopeless.success
    assert "agree" in hopeless.reason
    with pytest.raises(ValueError, match="pointmap"):
        solve_pnp(noise, None, CAMERA)
    with pytest.raises(ValueError, match="keep"):
        solve_pnp(noise, pixels, CAMERA, keep=0.0)


def test_pose_from_pointmaps_is_the_camera_in_reference_units():
    own = depth_to_pointmap(bumpy_depth(), CAMERA)
    reference = transform_points(POSE, 3 * own)
    reference[:4] += 1.0
    confidence = torch.ones(HEIGHT, WIDTH)
    fit = pose_from_pointmaps(own, reference, confidence)
    torch.testing.assert_close(fit.pose(), POSE, atol=2e-3, rtol=0)
    assert fit.scale.item() == pytest.approx(3.0, rel=1e-3)
    confidence[:4] = 0
    exact = pose_from_pointmaps(own, reference, confidence, robust=False)
    torch.testing.assert_close(exact.pose(), POSE, atol=1e-4, rtol=0)


def noisy_pointmap(focal=40.0, seed=0):
    camera = intrinsics_matrix(torch.tensor([focal]), torch.tensor([[15.0, 12.5]]))
    points = depth_to_pointmap(bumpy_depth(seed)[None], camera)
    generator = torch.Generator().manual_seed(seed)
    return points + 0.05 * torch.randn(points.shape, generator=generator)


def test_weiszfeld_focal_minimises_the_sum_of_distances():
    points = noisy_pointmap().double()
    centre = torch.tensor([[15.0, 12.5]], dtype=torch.float64)
    rays = (points[..., :2] / points[..., 2:])[0].numpy()
    pixels = (pixel_grid(HEIGHT, WIDTH) - centre[0]).numpy()
    cost = minimize_scalar(
        lambda f: np.linalg.norm(pixels - f * rays, axis=-1).sum(), bounds=(10, 90)
    )
    assert estimate_focal(points, centre).item() == pytest.approx(cost.x, rel=1e-4)


@pytest.mark.parametrize("method", ["weiszfeld", "median"])
def test_focal_leaves_out_masked_unlikely_and_invalid_pixels(method):
    clean, centre = noisy_pointmap(), torch.tensor([[15.0, 12.5]])
    spoiled = clean.clone()
    spoiled[:, :6] *= torch.tensor([5.0, 5.0, 1.0])
    spoiled[:, 6] = 0
    mask = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :7] = False
    expected = estimate_focal(clean, centre, method, mask=mask)
    torch.testing.assert_close(estimate_focal(spoiled, centre, method, mask=mask), expected)
    torch.testing.assert_close(
        estimate_focal(spoiled, centre, method, weights=mask.float()), expected
    )
    assert estimate_focal(spoiled, centre, method, mask=mask & False).isnan().all()
    assert estimate_focal(clean, centre, method, bounds=(50.0, 80.0)).item() == 50.0


def test_focal_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="'mean'"):
        estimate_focal(noisy_pointmap(), torch.zeros(1, 2), method="mean")
    with pytest.raises(ValueError, match="principal_points"):
        estimate_focal(noisy_pointmap(), torch.zeros(2))
    with pytest.raises(ValueError, match="pointmaps"):
        estimate_focal(noisy_pointmap()[0], torch.zeros(1, 2))


@pytest.mark.parametrize("dimensions", [3, 24])
def test_nearest_neighbours_agree_with_scipy(dimensions, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(70, dimensions, generator=generator)
    points = torch.randn(90, dimensions, generator=generator)
    expected = KDTree(points.numpy()).query(queries.numpy())[1]
    assert nearest_neighbours(queries, points).tolist() == expected.tolist()
    monkeypatch.setattr("croco3d.geometry.matches.TREE_DIMENSIONS", 3 if dimensions > 3 else 0)
    monkeypatch.setattr("croco3d.geometry.matches.CHUNK_ELEMENTS", 1000)
    assert nearest_neighbours(queries, points).tolist() == expected.tolist()


def test_reciprocal_matches_of_pointmaps_use_flat_indices_and_masks():
    first = depth_to_pointmap(bumpy_depth(), CAMERA)
    second = first.flip(1)[:10]
    valid = torch.ones(10, WIDTH, dtype=torch.bool)
    valid[3] = False
    second[4] = torch.nan
    matches = reciprocal_matches(first, second, valid_b=valid)
    rows, columns = matches[:, 0] // WIDTH, matches[:, 0] % WIDTH
    exact = (first.flatten(0, 1)[matches[:, 0]] == second.flatten(0, 1)[matches[:, 1]]).all(-1)
    assert exact[rows < 10].all()
    assert (matches[:, 1] // WIDTH).unique().tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    mirrored = rows * WIDTH + WIDTH - 1 - columns
    assert torch.equal(matches[exact, 1], mirrored[exact])
    nothing = torch.zeros(10, WIDTH, dtype=torch.bool)
    assert reciprocal_matches(first, second, valid_b=nothing).shape == (0, 2)
    with pytest.raises(ValueError, match="dimensions"):
        reciprocal_matches(first, second[..., :2])


def test_fast_matches_are_reciprocal_and_complete_at_stride_one():
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(12, 16, 24, generator=generator), dim=-1)
    second = first.flip(0) + 0.05 * torch.randn(12, 16, 24, generator=generator)
    full = {tuple(pair) for pair in reciprocal_matches(first, second).tolist()}
    assert {tuple(p) for p in fast_reciprocal_matches(first, second, stride=1).tolist()} == full
    sparse = fast_reciprocal_matches(first, second, stride=4).tolist()
    assert 0 < len(sparse) <= 12
    assert {tuple(pair) for pair in sparse} <= full


def test_fast_matches_walk_uphill_to_a_reciprocal_pair():
    """Descriptors that vary smoothly: few grid pixels match at once, most after some rounds."""
    grid = pixel_grid(16, 16)
    first = torch.cat((grid, grid.sin()), dim=-1)
    coarse = 2.3 * grid
    second = torch.cat((coarse, coarse.sin()), dim=-1)
    at_once = fast_reciprocal_matches(first, second, stride=5, iterations=1)
    later = fast_reciprocal_matches(first, second, stride=5)
    full = {tuple(pair) for pair in reciprocal_matches(first, second).tolist()}
    assert len(later) > len(at_once)
    assert {tuple(pair) for pair in later.tolist()} <= full
    with pytest.raises(ValueError, match="equal D"):
        fast_reciprocal_matches(first, second[..., :2])


def test_projective_matches_see_the_same_surface_and_respect_occlusion():
    plane = depth_to_pointmap(torch.full((HEIGHT, WIDTH), 4.0), CAMERA)
    step = torch.eye(4)
    step[0, 3] = 0.3
    depth = torch.full((HEIGHT, WIDTH), 4.0)
    depth[:, :8] = 2.0
    other = depth_to_pointmap(depth, CAMERA, step)
    matches = projective_matches(plane[None], other[None], CAMERA[None], step[None])[0]
    found = matches >= 0
    shift = round(40 * 0.3 / 4)
    columns = torch.arange(WIDTH).expand(HEIGHT, WIDTH)
    assert torch.equal(found, (columns - shift >= 8))
    expected = torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH) - shift
    assert torch.equal(matches[found], expected[found])
    hidden = projective_matches(
        plane, other, CAMERA, step, valid_b=torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    )
    assert (hidden == -1).all()
    behind = projective_matches(-plane, -plane, CAMERA, torch.eye(4))
    assert (behind == -1).all()


def test_normals_of_a_slanted_plane_are_exact_and_face_the_camera():
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, -1.0]), dim=0)
    rays = depth_to_pointmap(torch.ones(HEIGHT, WIDTH), CAMERA)
    plane = rays * (-3 / (rays @ direction))[..., None]
    found, defined = normals(plane)
    assert defined.all()
    torch.testing.assert_close(found, direction.expand_as(found), atol=1e-4, rtol=0)
    world, _ = normals(transform_points(POSE, plane))
    expected = POSE[:3, :3] @ direction
    torch.testing.assert_close(world, expected.expand_as(world), atol=1e-4, rtol=0)


def test_normals_ignore_invalid_neighbours():
    points = depth_to_pointmap(torch.full((HEIGHT, WIDTH), 2.0), CAMERA)
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    mask[5, 5] = False
    points[5, 5] = torch.nan
    points[10, 10] = 100.0
    mask[10, 10] = False
    found, defined = normals(points, mask)
    assert torch.equal(defined, mask)
    towards = torch.tensor([0.0, 0.0, -1.0])
    torch.testing.assert_close(found[mask], towards.expand(int(mask.sum()), 3))


def test_depth_edges_mark_both_sides_of_a_jump_only():
    depth = torch.full((2, 10, 12), 2.0) + torch.linspace(0, 0.3, 12)
    depth[1, :, 6:] += 2
    depth[1, 0, 0] = 0
    edges = depth_edges(depth)
    assert not edges[0].any()
    assert edges[1].nonzero()[:, 1].unique().tolist() == [5, 6]
    assert not depth_edges(depth, mask=depth < 0).any()


def test_projection_of_rotated_cameras_is_consistent():
    points = depth_to_pointmap(bumpy_depth(), CAMERA, POSE)
    torch.testing.assert_close(
        project(points, CAMERA, POSE), pixel_grid(HEIGHT, WIDTH), atol=1e-4, rtol=1e-4
    )
    assert rotation_angle(POSE[:3, :3], torch.eye(3)).item() == pytest.approx(20.7, abs=0.5)
