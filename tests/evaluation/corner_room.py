"""A textured corner of a room, rendered exactly by intersecting rays with three planes."""

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from croco3d.geometry import depth_to_pointmap, intrinsics_matrix, pose_from_parts

HEIGHT, WIDTH = 96, 128
CAMERA = intrinsics_matrix(torch.tensor(110.0), torch.tensor([63.5, 47.5]))


def texture(seed):
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.uniform(0, 255, (n, n)), (512, 512)) for n in (32, 64, 128)]
    return np.mean(layers, axis=0).astype(np.float32)


TEXTURES = [texture(seed) for seed in range(3)]


def render(pose):
    """Grey image and depth, both `(H, W)`, of the back wall, the left wall and the floor."""
    rays = depth_to_pointmap(torch.ones(HEIGHT, WIDTH), CAMERA)
    direction = (rays @ pose[:3, :3].T).numpy()
    origin = pose[:3, 3].numpy()
    best, image = np.full((HEIGHT, WIDTH), np.inf), np.zeros((HEIGHT, WIDTH), np.float32)
    for plane, (axis, offset) in enumerate(((2, 4.0), (0, -1.2), (1, 0.9))):
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (offset - origin[axis]) / direction[..., axis]
        depth[~(depth > 0)] = np.inf
        nearer = depth < best
        points = origin + np.where(nearer, depth, 0)[..., None] * direction
        u, v = (np.delete(points, axis, axis=-1) * 80 + 256).astype(np.float32).transpose(2, 0, 1)
        colours = cv2.remap(TEXTURES[plane], u, v, cv2.INTER_LINEAR)
        image[nearer], best[nearer] = colours[nearer], depth[nearer]
    return torch.from_numpy(image), torch.from_numpy(best).float()


def make_pose(angles, shift):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return pose_from_parts(torch.from_numpy(turn).float(), torch.tensor(shift))


def make_sample(number, second):
    """A stereo sample; `second` is camera 2's pose in camera 1."""
    sample = {"dataset": "corner", "name1": f"a{number}", "name2": f"b{number}"}
    first = make_pose([0, -8, 0], [0.1 * number, 0.0, 0.0])
    for view, camera in ((1, first), (2, first @ second)):
        image, depth = render(camera)
        sample |= {
            f"pixel_values{view}": (image / 127.5 - 1).expand(3, -1, -1),
            f"depth{view}": depth,
            f"pointmap{view}": depth_to_pointmap(depth, CAMERA, camera),
            f"valid{view}": depth < 50,
            f"cam2world{view}": camera,
            f"intrinsics{view}": CAMERA,
            f"true_shape{view}": torch.tensor([HEIGHT, WIDTH]),
        }
    return sample
