"""What the app does for one visitor, without the user interface: files, limits, scenes."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..files import atomic_path
from ..scene import Scene
from ..scene.export.glb import scene_extent

logger = logging.getLogger(__name__)

Reconstruct = Callable[..., Scene]
"""Called as `reconstruct(paths, model=..., graph=...)`; returns the scene."""

MEGABYTE = 2**20
SPLATS = 400_000  # points that are shown as little squares


@dataclass(frozen=True)
class Limits:
    """How much one visitor may ask for.

    Attributes:
        photographs: Most photographs of a scene.
        file_megabytes: Largest size of one file.
        total_megabytes: Largest size of all files together.
        megapixels: Largest photograph; a small file can hold a huge one.
    """

    photographs: int = 40
    file_megabytes: int = 40
    total_megabytes: int = 400
    megapixels: int = 120


@dataclass(eq=False)
class Session:
    """One visitor's folder and scene."""

    folder: Path
    scene: Scene | None = None
    exports: int = 0


@dataclass(eq=False)
class Sessions:
    """Visitors, each with a private folder that goes when they go.

    Attributes:
        reconstruct: What makes a scene of photographs.
        limits: What a visitor may ask for.
        root: Holds the folders; readable by this user alone.
    """

    reconstruct: Reconstruct
    limits: Limits = field(default_factory=Limits)
    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="croco3d-app-")))
    _open: dict[str, Session] = field(default_factory=dict)

    def get(self, key: str) -> Session:
        """The session of a visitor, made when new."""
        if key not in self._open:
            self._open[key] = Session(Path(tempfile.mkdtemp(dir=self.root, prefix="session-")))
        return self._open[key]

    def close(self, key: str) -> None:
        """Forget a visitor and remove everything of theirs."""
        session = self._open.pop(key, None)
        if session is not None:
            shutil.rmtree(session.folder, ignore_errors=True)

    def close_all(self) -> None:
        """Remove everything, uploads included."""
        self._open.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def make_scene(self, key: str, uploads: Sequence[str], model: str, graph: str) -> Scene:
        """Reconstruct a visitor's photographs, replacing their earlier scene.

        Args:
            key: The visitor.
            uploads: Uploaded files.
            model: A model's name.
            graph: Which pairs are predicted, see `croco3d.scene.make_pairs`.

        Returns:
            The scene.

        Raises:
            ValueError: If there are too few, too many or too large files, or no photographs.
        """
        session = self.get(key)
        self.check(uploads)
        photographs = _fresh(session.folder / "photographs")
        paths = []
        for index, upload in enumerate(uploads):
            folder = photographs / f"{index:03d}"
            folder.mkdir()
            paths.append(Path(shutil.copy(upload, folder / Path(upload).name)))
        session.scene = None
        session.scene = self.reconstruct(paths, model=model, graph=graph).oriented()
        return session.scene

    def check(self, uploads: Sequence[str]) -> None:
        """Refuse files that are too many, too large, or no photographs.

        Args:
            uploads: Files.

        Raises:
            ValueError: Saying which file, and what the limit is.
        """
        limits = self.limits
        if len(uploads) < 2:
            raise ValueError("Add at least two photographs of the same scene.")
        if len(uploads) > limits.photographs:
            raise ValueError(
                f"{len(uploads)} photographs are too many; this app takes {limits.photographs}."
            )
        total = 0
        for upload in map(Path, uploads):
            size = upload.stat().st_size / MEGABYTE
            total += size
            if size > limits.file_megabytes:
                raise ValueError(
                    f"{upload.name} has {size:.0f} MB; this app takes {limits.file_megabytes} MB."
                )
            _check_pixels(upload, limits.megapixels)
        if total > limits.total_megabytes:
            raise ValueError(
                f"The photographs have {total:.0f} MB together; "
                f"this app takes {limits.total_megabytes} MB."
            )

    def show(self, key: str, min_confidence: float, surface: bool) -> Path:
        """Write the visitor's scene for the viewer.

        Args:
            key: The visitor.
            min_confidence: Percentile of confidence, see `Scene.mask`.
            surface: Triangles instead of points.

        Returns:
            A GLB file with a new name, so that browsers do not show an earlier one.

        Raises:
            ValueError: If there is no scene yet.
        """
        scene, session = self._scene(key), self.get(key)
        session.exports += 1
        path = _fresh(session.folder / "shown") / str(session.exports) / "scene.glb"
        # Browsers draw points one pixel wide, which leaves little to see of a few.
        few = sum(depth.numel() for depth in scene.depthmaps) <= SPLATS
        scene.save(
            path,
            mesh="grid" if surface else "splats" if few else False,
            min_confidence=min_confidence,
            voxel_size="auto" if not surface else None,
            remove_edges=True,
        )
        return path

    def extent(self, key: str) -> float:
        """Size of the visitor's scene in its unit, without outliers.

        Raises:
            ValueError: If there is no scene yet.
        """
        scene = self._scene(key)
        cloud = scene.fuse(voxel_size=None, min_confidence=20, remove_edges=False)
        return scene_extent(cloud.points, scene.cameras)

    def downloads(self, key: str, min_confidence: float) -> tuple[Path, Path]:
        """Write the visitor's scene as PLY and as a zipped COLMAP project.

        Args:
            key: The visitor.
            min_confidence: Percentile of confidence, see `Scene.mask`.

        Returns:
            The two files.

        Raises:
            ValueError: If there is no scene yet.
        """
        scene = self._scene(key)
        folder = _fresh(self.get(key).folder / "downloads")
        cloud = folder / "scene.ply"
        scene.save(cloud, min_confidence=min_confidence, voxel_size="auto", remove_edges=True)
        scene.save_colmap(folder / "colmap", min_confidence=min_confidence)
        archive = folder / "colmap.zip"
        _zip(folder / "colmap", archive)
        shutil.rmtree(folder / "colmap")
        return cloud, archive

    def _scene(self, key: str) -> Scene:
        scene = self.get(key).scene
        if scene is None:
            raise ValueError("There is no scene yet: add photographs and press Reconstruct.")
        return scene


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _check_pixels(upload: Path, megapixels: int) -> None:
    """Look at a photograph's header; decoding it is the reconstruction's work."""
    try:
        with Image.open(upload) as image:
            pixels = image.width * image.height / 1e6
    except Image.DecompressionBombError:
        pixels = float("inf")
    except (UnidentifiedImageError, OSError):
        # Formats that need a plug-in, and damaged files: their reader has the better sentence.
        return
    if pixels > megapixels:
        raise ValueError(f"{upload.name} has more than the {megapixels} megapixels that are taken.")


def _zip(folder: Path, archive: Path) -> None:
    # Photographs and coordinates hardly shrink, so compressing would only take time.
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            target.write(file, file.relative_to(folder))
