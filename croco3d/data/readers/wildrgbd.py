"""WildRGB-D: objects in the wild, filmed with a phone's depth sensor."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..frames import Frame, PairSource
from ..pairing import pairs_by_pose
from ..registry import READERS
from .common import Scene, entry_of, join_scenes, require, subfolders


@READERS.register("wildrgbd")
def wildrgbd(
    root: str | Path,
    categories: Sequence[str] | None = None,
    split: str | None = None,
    foreground: bool = False,
    max_depth: float | None = 5.0,
    max_degrees: float = 90.0,
    neighbours: int = 10,
) -> PairSource:
    """Read WildRGB-D as downloaded; frames of the same scene pair up by viewing direction.

    Download: github.com/wildrgbd/wildrgbd, `python download.py --cat NAME`. Layout (its README):
    `<category>/scenes/<scene>/` with `rgb/00000.png`, `depth/00000.png` (16 bit, millimetres),
    `masks/`, `metadata` (JSON: `w`, `h`, `K` in column order) and `cam_poses.txt` (frame number
    and a camera-to-world matrix with OpenCV's axes, a line each); `camera_eval_list.json` holds the
    split.

    Licence: MIT (repository); see the project's terms for the data.

    Args:
        root: The folder of categories.
        categories: Which ones; None for all that are there.
        split: `train` or `val` of `camera_eval_list.json`; None for all scenes.
        foreground: Whether only the object's depth counts, and not the background's.
        max_depth: Depths beyond are invalid, in metres; the authors use 5.
        max_degrees: Largest angle between the optical axes of a pair.
        neighbours: Partners that a frame chooses.
    """
    root = Path(root)
    scenes = [
        scene
        for category in subfolders(root, categories, "WildRGB-D categories")
        for scene in _scenes(category, split)
    ]

    def read(scene: Path) -> Scene:
        meta = json.loads(require(scene / "metadata", "WildRGB-D's camera").read_text())
        intrinsics = np.array(meta["K"], dtype=np.float64).reshape(3, 3).T
        frames = []
        for row in np.loadtxt(require(scene / "cam_poses.txt", "WildRGB-D's poses"), ndmin=2):
            file = f"{int(row[0]):05d}.png"
            frames.append(
                Frame(
                    image=scene / "rgb" / file,
                    depth=scene / "depth" / file,
                    intrinsics=intrinsics,
                    cam2world=row[1:].reshape(4, 4),
                    name=str((scene / "rgb" / file).relative_to(root)),
                    depth_scale=1e-3,
                    mask=scene / "masks" / file if foreground else None,
                    size=(int(meta["w"]), int(meta["h"])),
                    max_depth=max_depth,
                )
            )
        poses = np.stack([frame.cam2world for frame in frames])
        return frames, pairs_by_pose(poses, max_degrees, neighbours)

    return join_scenes("wildrgbd", scenes, read)


def _scenes(category: Path, split: str | None) -> list[Path]:
    if split is None:
        return subfolders(category / "scenes", None, "WildRGB-D scenes")
    lists = require(category / "camera_eval_list.json", "WildRGB-D's split")
    names = entry_of(json.loads(lists.read_text(encoding="utf-8")), split, str(lists))
    return subfolders(category / "scenes", [Path(name).name for name in names], "WildRGB-D scenes")
