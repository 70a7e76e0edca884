"""Our exports in the hands of nerfstudio and gsplat themselves, where they are installed.

Neither is a dependency, and no GPU is needed: pip install --no-deps nerfstudio gsplat, then
pip install ninja jaxtyping tensorboard open3d rich.
"""

import numpy as np
import pytest
import torch
import trimesh
from analytic_scene import SIZE, analytic_scene, distance_to_surfaces
from PIL import Image

# Third-party imports warn of their own affairs.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
REDUCTION = 4


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return analytic_scene(5, tmp_path_factory.mktemp("photographs"))


@pytest.mark.parametrize("as_users_have_it", [True, False])
@pytest.mark.parametrize("depth_format", ["png", "npy"])
def test_nerfstudio_reads_cameras_photographs_depth_and_points(
    scene, tmp_path, as_users_have_it, depth_format
):
    parsers = pytest.importorskip(
        "nerfstudio.data.dataparsers.nerfstudio_dataparser",
        reason="nerfstudio is not installed, see this file's top",
        exc_type=ImportError,
    )
    from nerfstudio.data.datasets.depth_dataset import DepthDataset

    scene.save_nerfstudio(tmp_path, depth_format=depth_format)
    as_it_is = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False}
    config = parsers.NerfstudioDataParserConfig(
        data=tmp_path,
        load_3D_points=True,
        eval_mode="all",
        **({} if as_users_have_it else as_it_is),
    )
    parsed = config.setup().get_dataparser_outputs(split="train")
    assert [p.name for p in parsed.image_filenames] == [f"photo_{i}.png" for i in range(5)]
    to_world = np.linalg.inv(np.vstack([parsed.dataparser_transform.numpy(), [0, 0, 0, 1]]))
    scale = parsed.dataparser_scale
    assert (scale == 1) is not as_users_have_it

    def world(points):
        return points.double().numpy() / scale @ to_world[:3, :3].T + to_world[:3, 3]

    points, colors = parsed.metadata["points3D_xyz"], parsed.metadata["points3D_rgb"]
    cloud = scene.fuse()
    np.testing.assert_allclose(world(points), cloud.points, atol=1e-5)
    np.testing.assert_array_equal(colors, cloud.colors)

    dataset = DepthDataset(parsed)
    for index, camera in enumerate(scene.cameras):
        item = dataset[index]
        photograph = np.asarray(Image.open(scene.paths[index]))
        np.testing.assert_allclose(item["image"] * 255, photograph, atol=1e-3)
        rays = parsed.cameras.generate_rays(camera_indices=index, keep_shape=True)
        assert tuple(rays.shape) == (SIZE[1], SIZE[0]) == tuple(item["depth_image"].shape[:2])
        center = world(rays.origins[0, 0])
        np.testing.assert_allclose(center, camera.cam2world[:3, 3], atol=1e-6)
        # Directions are unit vectors; their length before is the distance at depth 1.
        depth = item["depth_image"]
        hits = world(rays.origins + rays.directions * rays.metadata["directions_norm"] * depth)
        seen = depth[..., 0].numpy() > 0
        assert seen.mean() > 0.7
        assert np.quantile(distance_to_surfaces(hits[seen]), 0.9) < 3e-3


def test_gsplat_renders_our_gaussians_like_the_photographs(scene, tmp_path):
    gsplat = pytest.importorskip(
        "gsplat", reason="gsplat is not installed, see the top of this file"
    )
    scene.save_gaussians(tmp_path / "ours.ply")
    tensors = read_gaussians(tmp_path / "ours.ply")
    # What gsplat writes of them is what it was given.
    gsplat.export_splats(**tensors, save_to=str(tmp_path / "theirs.ply"))
    again = read_gaussians(tmp_path / "theirs.ply")
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)

    for index in (0, 2):
        picture, opacity = render(tensors, scene.cameras[index])
        photograph = np.asarray(Image.open(scene.paths[index]).reduce(REDUCTION)) / 255
        covered = opacity > 0.5
        # The network's crop lacks strips at the top and bottom of the photograph.
        assert covered.mean() > 0.88
        assert -10 * np.log10(((picture - photograph)[covered] ** 2).mean()) > 23


def read_gaussians(path):
    """The arguments of `gsplat.export_splats`: logarithms of scales, logits of opacities."""
    data = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]

    def columns(*names):
        return torch.from_numpy(np.stack([data[name] for name in names], axis=-1).copy())

    return {
        "means": columns("x", "y", "z"),
        "scales": columns(*(f"scale_{k}" for k in range(3))),
        "quats": columns(*(f"rot_{k}" for k in range(4))),
        "opacities": columns("opacity")[:, 0],
        "sh0": columns(*(f"f_dc_{k}" for k in range(3)))[:, None],
        "shN": torch.zeros(len(data), 0, 3),
    }


def render(gaussians, camera):
    """Colours `(H, W, 3)` and opacities `(H, W)` of a camera whose image is reduced.

    Projection and harmonics are gsplat's own torch functions; only what it has for CUDA alone, the
    blending from front to back, is done here by its formulas.
    """
    from gsplat.cuda import _torch_impl as reference

    width, height = camera.width // REDUCTION, camera.height // REDUCTION
    k = camera.intrinsics.float().clone()
    k[:2, 2] += 0.5
    k[:2] /= REDUCTION
    means = gaussians["means"]
    covariances, _ = reference._quat_scale_to_covar_preci(
        gaussians["quats"], gaussians["scales"].exp(), True, False, triu=False
    )
    to_camera = torch.linalg.inv(camera.cam2world.double()).float()
    radii, centers, depths, conics, _ = reference._fully_fused_projection(
        means, covariances, to_camera[None], k[None], width, height
    )
    directions = means - camera.cam2world[:3, 3].float()
    colors = reference._spherical_harmonics(0, directions, gaussians["sh0"]) + 0.5
    order = depths[0].argsort()
    order = order[(radii[0, order] > 0).all(-1)]
    centers, reach, conics = centers[0, order], radii[0, order, 1], conics[0, order]
    visible, colors = gaussians["opacities"][order].sigmoid(), colors[order].clamp(min=0)
    picture, opacity = torch.zeros(height, width, 3), torch.zeros(height, width)
    for row in range(height):
        near = (centers[:, 1] - row - 0.5).abs() <= reach
        a, b, c = conics[near].T[..., None]
        u = torch.arange(width) + 0.5 - centers[near, :1]
        v = row + 0.5 - centers[near, 1:]
        power = 0.5 * (a * u**2 + c * v**2) + b * u * v
        alpha = (visible[near, None] * (-power).exp()).clamp(max=0.999)
        alpha = torch.where(alpha < 1 / 255, 0, alpha)
        passing = torch.cumprod(1 - alpha, 0)
        weights = alpha * torch.cat([torch.ones(1, width), passing[:-1]])
        picture[row], opacity[row] = weights.T @ colors[near], 1 - passing[-1]
    return picture.numpy(), opacity.numpy()
