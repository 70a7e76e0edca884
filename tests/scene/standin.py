"""A furnished room of known geometry, and a stand-in model that predicts it exactly."""

from types import SimpleNamespace

import numpy as np
import torch

from croco3d.modeling.dust3r import Dust3rImageProcessor
from croco3d.modeling.outputs import EncoderOutput, StereoOutput

SPHERES = [((0.3, 0.4, 3.2), 0.6), ((-0.9, 0.7, 2.6), 0.45), ((1.1, -0.2, 3.9), 0.5)]


def cast(origins, directions):
    """First hit of rays `(..., 3)` with the room's five walls and three spheres."""
    distance = np.full(directions.shape[:-1], np.inf)
    for axis, offset in ((0, -2.0), (0, 2.0), (1, -1.5), (1, 1.2), (2, 5.0)):
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = (offset - origins[axis]) / directions[..., axis]
        distance = np.minimum(distance, np.where(hit > 1e-6, hit, np.inf))
    for centre, radius in SPHERES:
        offset = origins - np.array(centre)
        a = (directions**2).sum(-1)
        b = directions @ offset
        root = b**2 - a * (offset @ offset - radius**2)
        hit = (-b - np.sqrt(np.maximum(root, 0))) / a
        distance = np.minimum(distance, np.where((root > 0) & (hit > 1e-6), hit, np.inf))
    return origins + distance[..., None] * directions


def look(centre, turn_y, turn_x):
    """cam2world `(4, 4)`: at `centre`, turned about y, then x (radians)."""
    cy, sy, cx, sx = np.cos(turn_y), np.sin(turn_y), np.cos(turn_x), np.sin(turn_x)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array(
        [[1, 0, 0], [0, cx, -sx], [0, sx, cx]]
    )
    pose[:3, 3] = centre
    return pose


POSES = [
    look((0.0, 0.0, 0.0), 0.0, 0.0),
    look((0.5, -0.2, 0.1), -0.12, 0.03),
    look((-0.5, 0.1, 0.2), 0.15, -0.04),
    look((0.2, 0.3, 0.5), -0.05, 0.1),
]


class Room:
    """Photographs of the room and what is true about them.

    Args:
        sizes: (width, height) of each photograph.
        focal: In pixels of the network's input.
        network: Longest side of the network's input.
    """

    def __init__(self, sizes=((320, 240), (320, 240)), focal=150.0, network=160):
        self.processor = Dust3rImageProcessor(size=network)
        self.poses = POSES[: len(sizes)]
        self.photographs, self.intrinsics, self.points = [], [], []
        for (width, height), pose in zip(sizes, self.poses, strict=True):
            geometry = self.processor(np.zeros((height, width, 3), np.uint8))
            to_original = geometry["pixel_to_original"][0]
            h, w = geometry["true_shape"][0].tolist()
            camera = np.array([[focal, 0, w / 2], [0, focal, h / 2], [0, 0, 1]])
            self.intrinsics.append(to_original @ camera)
            self.points.append(self.surface(camera, pose, w, h))
            points = self.surface(self.intrinsics[-1], pose, width, height)
            self.photographs.append(self.paint(points))

    @staticmethod
    def surface(camera, pose, width, height):
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(camera).T
        return cast(pose[:3, 3], rays @ pose[:3, :3].T)

    @staticmethod
    def paint(points):
        waves = np.sin(points * 9) + np.sin(points[..., [1, 2, 0]] * 23)
        return (127 + 60 * waves).clip(0, 255).astype(np.uint8)

    def seen_from(self, image, camera):
        """Points of an image in the frame of another camera, at the network's size."""
        pose = np.linalg.inv(self.poses[camera])
        points = self.points[image] @ pose[:3, :3].T + pose[:3, 3]
        return torch.from_numpy(points).float()

    def relative_pose(self, first, second):
        return np.linalg.inv(self.poses[first]) @ self.poses[second]


class ExactModel(torch.nn.Module):
    """Recognises the photographs of a room and returns what a perfect network would."""

    device = torch.device("cpu")

    def __init__(self, room, confidence=10.0, fail_after=None):
        super().__init__()
        self.room, self.confidence, self.fail_after = room, confidence, fail_after
        inputs = [room.processor(photo).pixel_values for photo in room.photographs]
        self.register_buffer("truth", torch.cat([p.flatten() for p in inputs]))
        self.known = inputs
        side = room.processor.size.longest_edge
        self.config = SimpleNamespace(image_size=side, patch_size=16)
        self.encoded, self.decoded = [], []

    def recognise(self, pixels):
        same = [
            index
            for index, known in enumerate(self.known)
            if known.shape[1:] == pixels.shape and torch.equal(known[0], pixels)
        ]
        return same[0]

    def encode(self, pixel_values, true_shape=None):
        images = [self.recognise(pixels) for pixels in pixel_values]
        self.encoded += images
        height, width = pixel_values.shape[-2:]
        tokens = torch.tensor(images).view(-1, 1, 1).expand(-1, height * width // 256, 4).float()
        return EncoderOutput(
            last_hidden_state=tokens,
            positions=torch.zeros(*tokens.shape[:2], 2, dtype=torch.long),
            image_size=(height, width),
        )

    def decode(self, features1, features2):
        pairs = [
            (int(a), int(b))
            for a, b in zip(
                features1.last_hidden_state[:, 0, 0],
                features2.last_hidden_state[:, 0, 0],
                strict=True,
            )
        ]
        self.decoded += pairs
        if self.fail_after is not None and len(self.decoded) > self.fail_after:
            raise KeyboardInterrupt
        points1 = torch.stack([self.room.seen_from(i, i) for i, _ in pairs])
        points2 = torch.stack([self.room.seen_from(j, i) for i, j in pairs])
        return StereoOutput(
            pointmap1=points1,
            pointmap2=points2,
            confidence1=torch.full(points1.shape[:3], self.confidence),
            confidence2=torch.full(points2.shape[:3], self.confidence),
        )
