"""Furniture models of Debian's `sweethome3d-furniture`, with their licences.

The package holds catalogues (`.sh3f`, zip files) of OBJ models with real sizes. Only catalogues
listed in `LICENSES` are used; all of them are CC0 or CC-BY.
"""

import logging
import posixpath
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .mesh import Mesh
from .obj import ObjMaterial, parse_mtl, parse_obj

logger = logging.getLogger(__name__)

FURNITURE_FOLDER = Path("/usr/share/sweethome3d/furniture")
TEXTURE_SIZE = 256
MAX_OBJ_BYTES = 1_500_000
MAX_TRIANGLES = 12_000

LICENSES = {
    "BlendSwap-CC-0": ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "BlendSwap-CC-BY": ("CC-BY-3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "KatorLegaz": ("CC-BY-3.0-US", "https://creativecommons.org/licenses/by/3.0/us/"),
    "Reallusion": ("CC-BY-3.0-US", "https://creativecommons.org/licenses/by/3.0/us/"),
    "Scopia": ("CC-BY-3.0", "https://creativecommons.org/licenses/by/3.0/"),
}
_HOLDERS = {
    "BlendSwap-CC-0": "via Blend Swap, converted by Emmanuel Puybaret / eTeks",
    "BlendSwap-CC-BY": "via Blend Swap, converted by Emmanuel Puybaret / eTeks",
    "KatorLegaz": "Andrew Kator & Jennifer Legaz",
    "Reallusion": "Reallusion <http://www.reallusion.com>",
    "Scopia": "Emmanuel Puybaret / eTeks and Scopia Visual Interfaces Systems, s.l.",
}
_SKIPPED_CATEGORIES = {"Vehicles", "Staircases"}
# Flat markings, bank notes and outdoor pieces that do not belong into a room.
_SKIPPED_WORDS = re.compile(
    r"billet|stationnement|fleche|passage|rails|pool|escalator|elevator|truck|hedge|barnum|"
    r"container|tent|garage|fence|railing|hut|avenue|spire|car$|plane|boat|train",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Attribution:
    """Who made a model, and on which terms it may be used."""

    id: str
    name: str
    creator: str
    license: str
    license_url: str
    catalogue: str


@dataclass
class Furniture:
    """A model of real size.

    Attributes:
        attribution: who made it.
        category: of the catalogue ("Kitchen", "Office", ...).
        mesh: in metres, object frame of `mesh`.
        elevation: height of its underside above the floor in metres.
        top: height in metres on which small things can stand, 0 where there is none.
    """

    attribution: Attribution
    category: str
    mesh: Mesh
    elevation: float
    top: float


def furniture_version(folder: Path = FURNITURE_FOLDER) -> str | None:
    """Identify the installed catalogues, None where there are none."""
    files = [folder / f"{name}.sh3f" for name in LICENSES]
    found = [f for f in files if f.is_file()]
    return "-".join(f"{f.stem}{f.stat().st_size}" for f in found) or None


def parse_furniture(
    folder: Path = FURNITURE_FOLDER, progress: bool = True
) -> tuple[list[Furniture], list[np.ndarray]]:
    """Read every usable model of the catalogues in `folder`.

    Args:
        folder: holds the `.sh3f` files.
        progress: show a bar on stderr.

    Returns:
        The models, and their textures `(TEXTURE_SIZE, TEXTURE_SIZE, 4)` uint8 RGBA.
    """
    items: list[Furniture] = []
    textures: list[np.ndarray] = []
    for name in LICENSES:
        path = folder / f"{name}.sh3f"
        if not path.is_file():
            continue
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive.read("PluginFurnitureCatalog.properties"))
            bar = tqdm(entries, desc=f"reading {name}", disable=None if progress else True)
            items += [item for e in bar if (item := _read_item(archive, name, e, textures))]
    return items, textures


def _entries(properties: bytes) -> list[dict[str, str]]:
    """Split a properties file into one dictionary per model."""
    text = properties.decode("latin-1")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"\s*(\w+)#(\d+)\s*[=:]\s*(.*)", line)
        if match:
            entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
    return [entries[i] for i in sorted(entries) if "model" in entries[i]]


def _is_usable(entry: dict[str, str], archive: zipfile.ZipFile) -> bool:
    width, depth, height = (float(entry[k]) for k in ("width", "depth", "height"))
    return (
        entry.get("category") not in _SKIPPED_CATEGORIES
        and not _SKIPPED_WORDS.search(posixpath.basename(entry["model"]).removesuffix(".obj"))
        and max(width, depth) <= 300
        and height <= 260
        and max(width, depth, height) >= 8
        and min(width, depth) >= 1
        and archive.getinfo(entry["model"].lstrip("/")).file_size <= MAX_OBJ_BYTES
    )


def _read_item(
    archive: zipfile.ZipFile, catalogue: str, entry: dict[str, str], textures: list[np.ndarray]
) -> Furniture | None:
    model = entry["model"].lstrip("/")
    if not _is_usable(entry, archive):
        return None
    text = archive.read(model).decode("latin-1")
    folder = posixpath.dirname(model)
    known: dict[str, int] = {}

    def texture_index(path: str) -> int:
        if path not in known:
            image = _read_texture(archive, path)
            known[path] = -1 if image is None else len(textures)
            textures.extend([] if image is None else [image])
        return known[path]

    mesh = parse_obj(text, _read_materials(archive, text, folder), texture_index)
    if mesh is None or len(mesh.triangles) > MAX_TRIANGLES:
        return None
    _to_metres(mesh, entry)
    license_name, url = LICENSES[catalogue]
    creator = entry.get("creator", "")
    holder = _HOLDERS[catalogue]
    credit = f"{creator} ({holder})" if creator and creator not in holder else holder
    return Furniture(
        Attribution(f"{catalogue}/{model}", entry["name"], credit, license_name, url, catalogue),
        entry.get("category", ""),
        mesh,
        max(float(entry.get("elevation", 0)) / 100, 0.0),
        max(float(entry.get("dropOnTopElevation", entry["height"])) / 100, 0.0),
    )


def _read_materials(archive: zipfile.ZipFile, obj_text: str, folder: str) -> dict[str, ObjMaterial]:
    materials: dict[str, ObjMaterial] = {}
    for name in re.findall(r"^mtllib\s+(.+?)\s*$", obj_text, re.MULTILINE):
        path = posixpath.normpath(posixpath.join(folder, name))
        if path in archive.NameToInfo:
            text = archive.read(path).decode("latin-1")
            materials |= parse_mtl(text, posixpath.dirname(path))
    return materials


def _read_texture(archive: zipfile.ZipFile, path: str) -> np.ndarray | None:
    if path not in archive.NameToInfo:
        return None
    data = np.frombuffer(archive.read(path), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        logger.warning("Texture %s cannot be read; its surface stays plain.", path)
        return None
    if image.dtype == np.uint16:
        image = np.right_shift(image, 8).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGBA)
    else:
        code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGBA
        image = cv2.cvtColor(image, code)
    return cv2.resize(image, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA)


def _to_metres(mesh: Mesh, entry: dict[str, str]) -> None:
    """Turn and scale a parsed mesh to the size that the catalogue states."""
    if "modelRotation" in entry:
        rotation = np.array(entry["modelRotation"].split(), dtype=np.float64).reshape(3, 3)
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        rotation = (turn @ rotation @ turn.T).astype(np.float32)
        mesh.positions = mesh.positions @ rotation.T
        mesh.normals = mesh.normals @ rotation.T
    low, high = mesh.positions.min(axis=0), mesh.positions.max(axis=0)
    target = np.array([float(entry[k]) for k in ("width", "depth", "height")]) / 100
    scale = target / np.maximum(high - low, 1e-6)
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    mesh.positions = ((mesh.positions - origin) * scale).astype(np.float32)
    textured = np.array([m.texture >= 0 for m in mesh.materials])[mesh.material_ids]
    mesh.uvs[~textured] *= float(np.median(scale))
