"""What rooms are furnished with: pieces of one split, their textures, and the split itself."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from ...files import atomic_path
from .furniture import (
    FURNITURE_FOLDER,
    Attribution,
    Furniture,
    furniture_version,
    parse_furniture,
)
from .mesh import Material, Mesh
from .shapes import random_shape
from .textures import random_texture

Split = Literal["train", "val", "test"]
Placement = Literal["floor", "table", "wall", "ceiling"]
Source = Literal["auto", "furniture", "shapes"]

CACHE_FORMAT = 1
TEXTURE_COUNT = 384
SHAPE_COUNT = 160
_SPLIT_SHARES = {"train": 0.70, "val": 0.12, "test": 0.18}
_MISSING = (
    "No furniture in {folder}. Install it (`apt-get install sweethome3d-furniture` on Debian or "
    "Ubuntu), or pass source='shapes' to use procedural shapes only."
)


@dataclass
class Piece:
    """Something that can be put into a room.

    Attributes:
        name: unique within the catalogue.
        mesh: metres, object frame of `mesh`.
        placement: what it stands or hangs on.
        elevation: height of its underside for pieces on a wall, metres.
        top: height on which small things can stand, 0 where there is none, metres.
        attribution: who made it, None for procedural shapes.
    """

    name: str
    mesh: Mesh
    placement: Placement
    elevation: float = 0.0
    top: float = 0.0
    attribution: Attribution | None = None


@dataclass
class Catalogue:
    """Pieces and textures of one split.

    Attributes:
        split: "train", "val" or "test".
        pieces: furniture first, then procedural shapes.
        textures: `(L, 256, 256, 4)` uint8; pieces' materials index it.
        surfaces: indices of textures that may cover walls, floors and plain materials.
    """

    split: Split
    pieces: list[Piece]
    textures: np.ndarray
    surfaces: np.ndarray


def split_of(model_id: str) -> Split:
    """Assign a model to a split, together with its near copies (`lamp1`, `lamp2`).

    Args:
        model_id: path of the model inside its catalogue.

    Returns:
        The split, the same on every machine.

    >>> split_of("a/sofa1/sofa1.obj") == split_of("b/sofa_2/sofa_2.obj")
    True
    """
    stem = Path(model_id).stem.lower()
    family = re.sub(r"(male|female|left|right|open|closed)|[^a-z]", "", stem) or stem
    share = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64
    for split in get_args(Split):
        if share < _SPLIT_SHARES[split]:
            return split
        share -= _SPLIT_SHARES[split]
    return "test"


def cache_folder() -> Path:
    """Folder of parsed models: `$CROCO3D_CACHE`, else `~/.cache/croco3d` (XDG)."""
    if explicit := os.environ.get("CROCO3D_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "croco3d"


def load_furniture(folder: Path = FURNITURE_FOLDER) -> tuple[list[Furniture], list[np.ndarray]]:
    """Parse the installed furniture, or read what an earlier call parsed.

    Args:
        folder: holds the `.sh3f` catalogues.

    Returns:
        Models and their textures as `parse_furniture` gives them.

    Raises:
        FileNotFoundError: Where no catalogue is installed.
    """
    version = furniture_version(folder)
    if version is None:
        raise FileNotFoundError(_MISSING.format(folder=folder))
    key = hashlib.sha256(f"{CACHE_FORMAT}{version}".encode()).hexdigest()[:16]
    path = cache_folder() / f"furniture-{key}.npz"
    if not path.is_file():
        _write_cache(path, *parse_furniture(folder))
    # Read back even what was just parsed: compressed textures differ a little from the originals.
    return _read_cache(path)


_ARRAYS = ("positions", "normals", "uvs", "material_ids", "triangles")


def _write_cache(path: Path, items: list[Furniture], textures: list[np.ndarray]) -> None:
    encoded = [_encode(t) for t in textures]
    arrays = {
        name: np.concatenate([getattr(item.mesh, name) for item in items]) for name in _ARRAYS
    }
    arrays["normals"] = np.round(arrays["normals"] * 127).astype(np.int8)
    records = [
        {
            "attribution": asdict(item.attribution),
            "category": item.category,
            "elevation": item.elevation,
            "top": item.top,
            "vertices": len(item.mesh.positions),
            "triangles": len(item.mesh.triangles),
            "materials": [asdict(m) for m in item.mesh.materials],
        }
        for item in items
    ]
    arrays["texture_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
    arrays["texture_sizes"] = np.array([len(e) for e in encoded])
    arrays["records"] = np.frombuffer(json.dumps(records).encode(), np.uint8)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _encode(texture: np.ndarray) -> bytes:
    bgra = cv2.cvtColor(texture, cv2.COLOR_RGBA2BGRA)
    if (texture[..., 3] < 255).any():
        return cv2.imencode(".png", bgra)[1].tobytes()
    return cv2.imencode(".jpg", bgra[..., :3], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _decode(data: np.ndarray) -> np.ndarray:
    image = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGBA
    return cv2.cvtColor(image, code)


def _read_cache(path: Path) -> tuple[list[Furniture], list[np.ndarray]]:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    ends = np.cumsum(arrays["texture_sizes"])[:-1]
    textures = [_decode(part) for part in np.split(arrays["texture_bytes"], ends)]
    arrays["normals"] = arrays["normals"].astype(np.float32) / 127
    items, vertex, triangle = [], 0, 0
    for record in json.loads(arrays["records"].tobytes()):
        v, t = (
            slice(vertex, vertex + record["vertices"]),
            slice(triangle, triangle + record["triangles"]),
        )
        vertex, triangle = v.stop, t.stop
        parts = {name: arrays[name][t if name == "triangles" else v] for name in _ARRAYS}
        materials = [
            Material(tuple(m["color"]), m["texture"], m["gloss"]) for m in record["materials"]
        ]
        mesh = Mesh(**parts, materials=materials)
        credit = Attribution(**record["attribution"])
        items.append(
            Furniture(credit, record["category"], mesh, record["elevation"], record["top"])
        )
    return items, textures


def uses_furniture(source: Source) -> bool:
    """Whether rooms of a source hold real furniture, given what is installed."""
    return source == "furniture" or (source == "auto" and furniture_version() is not None)


@lru_cache(maxsize=2)
def load_catalogue(split: Split = "train", source: Source = "auto") -> Catalogue:
    """Gather the pieces and textures of a split.

    Args:
        split: "train", "val" or "test"; no piece or texture is in two of them.
        source: "furniture" needs the Debian package, "shapes" never uses it, "auto" takes the
            furniture where it is installed.

    Returns:
        The catalogue; calls with the same arguments share it.

    Raises:
        ValueError: If an argument is none of the choices.
        FileNotFoundError: If `source` is "furniture" and none is installed.
    """
    if split not in get_args(Split) or source not in get_args(Source):
        choices = f"split {get_args(Split)}, source {get_args(Source)}"
        raise ValueError(f"Got split={split!r}, source={source!r}; choices are {choices}.")
    salt = get_args(Split).index(split)
    rng = np.random.default_rng([20_000, salt])
    textures = [random_texture(rng) for _ in range(TEXTURE_COUNT)]
    surfaces = list(range(TEXTURE_COUNT))
    pieces: list[Piece] = []
    if uses_furniture(source):
        items, images = load_furniture()
        pieces = _pieces_of(split, items, images, textures, surfaces)
    pieces += [
        _shape_piece(np.random.default_rng([30_000, salt, i]), i) for i in range(SHAPE_COUNT)
    ]
    return Catalogue(split, pieces, np.stack(textures), np.array(surfaces))


def _shape_piece(rng: np.random.Generator, index: int) -> Piece:
    kind, mesh, top = random_shape(rng)
    small = mesh.size.max() < 0.6
    return Piece(f"shape/{kind}-{index}", mesh, "table" if small else "floor", top=top)


def _pieces_of(
    split: Split,
    items: list[Furniture],
    images: list[np.ndarray],
    textures: list[np.ndarray],
    surfaces: list[int],
) -> list[Piece]:
    """Pieces of the split; their textures are appended to `textures`, opaque ones to `surfaces`."""
    pieces = []
    moved: dict[int, int] = {}
    for item in items:
        if split_of(item.attribution.id) != split:
            continue
        for material in item.mesh.materials:
            if material.texture >= 0:
                fresh = material.texture not in moved
                material.texture = _move_texture(material.texture, moved, images, textures)
                if fresh and item.category != "Characters" and _covers(textures[-1]):
                    surfaces.append(material.texture)
        placement = _placement(item)
        pieces.append(
            Piece(
                item.attribution.id,
                item.mesh,
                placement,
                item.elevation,
                item.top,
                item.attribution,
            )
        )
    return pieces


def _move_texture(
    index: int,
    moved: dict[int, int],
    images: list[np.ndarray],
    textures: list[np.ndarray],
) -> int:
    if index not in moved:
        moved[index] = len(textures)
        textures.append(images[index])
    return moved[index]


def _covers(texture: np.ndarray) -> bool:
    """Whether a texture is opaque and not plain, so that a wall may wear it."""
    return texture[..., 3].min() == 255 and texture[..., :3].std(axis=(0, 1)).max() > 4


def _placement(item: Furniture) -> Placement:
    width, depth, height = item.mesh.size
    if item.elevation + height > 2.2 and item.elevation > 1.4 and item.category == "Lights":
        return "ceiling"
    if item.category == "Doors and windows" or item.elevation > 0.25:
        return "wall"
    if max(width, depth) < 0.55 and height < 0.6:
        return "table"
    return "floor"
