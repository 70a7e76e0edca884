"""Parsing furniture, licences, splits, and the procedural parts."""

import zipfile

import cv2
import numpy as np
import pytest

from croco3d.data.synthetic import attributions, catalogue, furniture, shapes, textures
from croco3d.data.synthetic.obj import parse_mtl, parse_obj

CUBE = """mtllib cube.mtl
v 0 0 0
v 2 0 0
v 2 4 0
v 0 4 0
v 0 0 1
v 2 0 1
v 2 4 1
v 0 4 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl front
f 5/1 6/2 7/3 8/4
usemtl side
f -8 -5 -6 -7
f 1 5 8 4
usemtl glass
f 2 3 7 6
"""
MATERIALS = """newmtl front
Kd 1 0 0
map_Kd wood.png
newmtl side
Kd 0.2 0.4 0.6
Ks 0.5 0.5 0.5
newmtl glass
Kd 1 1 1
d 0.2
"""
PROPERTIES = """id=Test
id#1=Test#cube
name#1=Caf\\u00e9 cube
category#1=Office
model#1=/test/cube/cube.obj
width#1=50
depth#1=100
height#1=200
dropOnTopElevation#1=200
creator#1=Somebody
id#2=Test#bus
name#2=Bus
category#2=Vehicles
model#2=/test/cube/cube.obj
width#2=50
depth#2=100
height#2=200
"""


@pytest.fixture
def folder(tmp_path):
    picture = np.full((8, 8, 3), 200, np.uint8)
    with zipfile.ZipFile(tmp_path / "Scopia.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", PROPERTIES)
        archive.writestr("test/cube/cube.obj", CUBE)
        archive.writestr("test/cube/cube.mtl", MATERIALS)
        archive.writestr("test/cube/wood.png", cv2.imencode(".png", picture)[1].tobytes())
    return tmp_path


def test_obj_faces_materials_and_transparency():
    mesh = parse_obj(CUBE, parse_mtl(MATERIALS, "x"), {"x/wood.png": 7}.__getitem__)
    assert mesh is not None
    assert len(mesh.triangles) == 6  # three quads; the glass one is left out
    assert [m.texture for m in mesh.materials] == [7, -1]
    assert mesh.materials[1].color == (0.2, 0.4, 0.6)
    assert mesh.materials[1].gloss == pytest.approx(0.5)
    front = mesh.material_ids == 0
    # The front looks along +z in the file and along -y in the object frame.
    np.testing.assert_allclose(mesh.positions[front][:, 1], -1)
    assert (mesh.normals[front] @ [0, -1, 0] > 0.6).all()
    # Texture rows count downwards, so the lower corners have v = 1.
    low = front & (mesh.positions[:, 2] == 0)
    np.testing.assert_allclose(mesh.uvs[low][:, 1], 1)


def test_obj_normals_look_the_way_their_faces_do():
    mesh = parse_obj(CUBE, parse_mtl(MATERIALS, ""), lambda path: -1)
    assert mesh is not None
    a, b, c = (mesh.positions[mesh.triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    face /= np.linalg.norm(face, axis=1, keepdims=True)
    for k in range(3):
        assert (np.einsum("ij,ij->i", face, mesh.normals[mesh.triangles[:, k]]) > 0.6).all()


def test_furniture_has_stated_size_credit_and_skips_vehicles(folder):
    items, images = furniture.parse_furniture(folder, progress=False)
    assert len(items) == 1 and len(images) == 1
    item = items[0]
    np.testing.assert_allclose(item.mesh.size, [0.5, 1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(item.mesh.bounds[0], [-0.25, -0.5, 0], atol=1e-6)
    assert item.top == 2.0
    assert item.attribution.name == "Café cube"
    assert item.attribution.license == "CC-BY-3.0"
    assert "Somebody" in item.attribution.creator and "Puybaret" in item.attribution.creator


def test_parsed_furniture_is_kept_and_read_back(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CROCO3D_CACHE", str(tmp_path / "cache"))
    first, images = catalogue.load_furniture(folder)
    monkeypatch.setattr(catalogue, "parse_furniture", pytest.fail)
    again, images_again = catalogue.load_furniture(folder)
    np.testing.assert_array_equal(first[0].mesh.positions, again[0].mesh.positions)
    np.testing.assert_array_equal(images[0], images_again[0])
    assert again[0].attribution == first[0].attribution
    assert again[0].mesh.materials == first[0].mesh.materials


def test_missing_furniture_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="sweethome3d-furniture"):
        catalogue.load_furniture(tmp_path)


def test_unknown_split_lists_choices():
    with pytest.raises(ValueError, match="train.*val.*test"):
        catalogue.load_catalogue("validation")  # pyright: ignore[reportArgumentType]


def test_shipped_attributions_are_free_licences_and_splits_are_disjoint():
    rows = attributions.shipped_attributions()
    assert len(rows) > 400
    assert {row.license for row in rows} == {"CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US"}
    assert all(row.creator and row.license_url.startswith("https://") for row in rows)
    names = {split: set() for split in ("train", "val", "test")}
    for row in rows:
        stem = row.id.rsplit("/", 1)[-1].removesuffix(".obj").lower()
        letters = "".join(c for c in stem if c.isalpha())
        names[catalogue.split_of(row.id)].add(letters)
    assert min(len(members) for members in names.values()) > 30
    # Models that differ in digits and punctuation only are near copies of each other.
    assert not names["train"] & names["val"]
    assert not names["train"] & names["test"]
    assert not names["val"] & names["test"]


@pytest.mark.parametrize("kind", list(textures.KINDS), ids=lambda kind: kind.__name__)
def test_textures_are_finite_pictures_that_vary(kind):
    image = kind(np.random.default_rng(3))
    assert image.shape == (textures.SIZE, textures.SIZE, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.001
    other = kind(np.random.default_rng(4))
    assert np.abs(image - other).mean() > 0.01


@pytest.mark.parametrize("kind", list(shapes.SHAPES), ids=lambda kind: kind.__name__)
def test_shapes_stand_on_the_floor_with_unit_normals(kind):
    mesh, top = kind(np.random.default_rng(5))
    assert mesh.bounds[0, 2] == pytest.approx(0, abs=0.06)
    assert mesh.size.max() < 3 and mesh.size.min() > 0
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    assert mesh.triangles.max() < len(mesh.positions)
    assert mesh.material_ids.max() < len(mesh.materials) <= 16
    assert 0 <= top <= mesh.bounds[1, 2] + 1e-6
