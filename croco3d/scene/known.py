"""What is known about cameras before an alignment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .camera import Camera

Use = Literal["fixed", "initial"]


@dataclass(frozen=True, eq=False)
class KnownCamera:
    """What is known about one photograph's camera; leave out what is not.

    Attributes:
        cam2world: Pose `(4, 4)`, OpenCV axes; estimated when None.
        focal: In ORIGINAL pixels, one number or (fx, fy); estimated when None.
        principal_point: (cx, cy) in ORIGINAL pixels, integer coordinates at pixel centres; the
            image's centre when None.
        use_pose: "fixed" keeps the pose; "initial" starts from it.
        use_focal: The same for the focal.
        use_principal_point: The same for the principal point: "initial" estimates it, from the
            centre when none is given.
        size: (width, height) of the photograph that focal and principal point belong to; when
            given, it is compared with the photograph at hand.
    """

    cam2world: Any = None
    focal: float | tuple[float, float] | None = None
    principal_point: tuple[float, float] | None = None
    use_pose: Use = "fixed"
    use_focal: Use = "fixed"
    use_principal_point: Use = "fixed"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("use_pose", "use_focal", "use_principal_point"):
            if getattr(self, name) not in ("fixed", "initial"):
                value = getattr(self, name)
                raise ValueError(f"{name} must be 'fixed' or 'initial', got {value!r}.")
        if self.cam2world is not None:
            object.__setattr__(self, "cam2world", _checked_pose(self.cam2world))
        if self.focal is not None and not all(0 < f < float("inf") for f in self.focals):
            raise ValueError(f"A focal is a positive number of pixels, got {self.focal}.")

    @classmethod
    def from_intrinsics(
        cls,
        intrinsics: Any,
        cam2world: Any = None,
        use: Use = "fixed",
        size: tuple[int, int] | None = None,
    ) -> "KnownCamera":
        """From a camera matrix `(3, 3)` in original pixels, with a pose or without.

        Raises:
            ValueError: If the matrix has another shape or has skew.
        """
        matrix = torch.as_tensor(intrinsics).double()
        if tuple(matrix.shape) != (3, 3) or not matrix.isfinite().all():
            raise ValueError(
                f"intrinsics must be a finite (3, 3) matrix, got {tuple(matrix.shape)}."
            )
        (fx, skew, cx), (zero, fy, cy), last = matrix.tolist()
        if abs(skew) > 1e-6 * fx or zero or last != [0.0, 0.0, 1.0]:
            raise ValueError(
                "intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] without skew, got "
                f"{matrix.tolist()}."
            )
        return cls(cam2world, (fx, fy), (cx, cy), use, use, use, size)

    @property
    def focals(self) -> tuple[float, float]:
        """(fx, fy) of a known focal."""
        assert self.focal is not None
        both = self.focal if isinstance(self.focal, Sequence) else (self.focal, self.focal)
        return float(both[0]), float(both[1])

    def check_size(self, size: tuple[int, int], name: str) -> None:
        """Refuse numbers that belong to a photograph of another size.

        Args:
            size: (width, height) of the photograph.
            name: What to call it.

        Raises:
            ValueError: If `self.size` differs, or the principal point is outside.
        """
        width, height = size
        remedy = f"Give them in pixels of the original photograph ({width} x {height})."
        if self.size is not None and tuple(self.size) != (width, height):
            raise ValueError(
                f"The known intrinsics of image {name} are for {self.size[0]} x {self.size[1]} "
                f"pixels. {remedy}"
            )
        if self.principal_point is not None:
            cx, cy = self.principal_point
            if not (0 < cx < width - 1 and 0 < cy < height - 1):
                raise ValueError(
                    f"The known principal point ({cx}, {cy}) of image {name} lies outside it. "
                    f"{remedy}"
                )


def known_cameras(
    cameras: KnownCamera | Mapping[int, Any] | Sequence[Any] | None, count: int
) -> list[KnownCamera]:
    """One entry an image from a list (None where nothing is known) or a mapping by index.

    Entries are `KnownCamera`s, or `Camera`s of a scene, all of whose numbers are then fixed. A
    single `KnownCamera` holds for all images, which can have anything but the pose in common.

    Raises:
        ValueError: For a wrong number of entries, an index out of range or another type.
    """
    if isinstance(cameras, KnownCamera):
        if cameras.cam2world is not None:
            raise ValueError("One known camera for all images cannot have a pose; give a list.")
        return [cameras] * count
    if cameras is None:
        cameras = {}
    if not isinstance(cameras, Mapping):
        if len(cameras) != count:
            raise ValueError(f"cameras has {len(cameras)} entries for {count} images.")
        cameras = dict(enumerate(cameras))
    result = [KnownCamera()] * count
    for index, camera in cameras.items():
        if not 0 <= index < count:
            raise ValueError(f"cameras names image {index}; they are numbered 0 to {count - 1}.")
        if isinstance(camera, Camera):
            size = (camera.width, camera.height)
            camera = KnownCamera.from_intrinsics(camera.intrinsics, camera.cam2world, size=size)
        if camera is not None and not isinstance(camera, KnownCamera):
            raise ValueError(
                f"cameras[{index}] must be a KnownCamera, a Camera or None, got "
                f"{type(camera).__name__}."
            )
        result[index] = camera or KnownCamera()
    return result


def _checked_pose(value: Any) -> Tensor:
    pose = torch.as_tensor(value).detach().double().cpu()
    if tuple(pose.shape) != (4, 4) or not pose.isfinite().all():
        raise ValueError(f"cam2world must be a finite (4, 4) matrix, got {tuple(pose.shape)}.")
    gram = pose[:3, :3].T @ pose[:3, :3]
    turned = (gram - torch.eye(3)).abs().max() < 1e-3 and torch.linalg.det(pose[:3, :3]) > 0
    if not turned or pose[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(
            "cam2world must hold a rotation, a translation and the row (0, 0, 0, 1), got "
            f"{pose.tolist()}."
        )
    return pose
