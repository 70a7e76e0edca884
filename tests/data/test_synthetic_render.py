"""Rendered depth and colours against geometry; shards, the reader, the fixed test sets."""

import hashlib
import importlib.resources
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from croco3d.data import PairDataset, make_source
from croco3d.data.synthetic import catalogue, generate, layout, renderer, testsets
from croco3d.data.synthetic.cameras import (
    CameraSettings,
    intrinsics_from_fov,
    look_at,
    pair_table,
    sample_cameras,
)
from croco3d.data.synthetic.mesh import merge
from croco3d.data.synthetic.scene import Light, Placed, Room, material_row
from croco3d.data.synthetic.shapes import box
from croco3d.data.synthetic.shards import read_shard, shard_path
from croco3d.data.synthetic.structure import quad

SIZE = (64, 48)
SETTINGS = generate.RoomSettings(
    size=SIZE, source="shapes", cameras=CameraSettings(views=6, cluster=6), supersample=2
)


def try_context():
    try:
        renderer.create_context().release()
    except renderer.RendererUnavailableError as error:
        return str(error)
    return None


NO_CONTEXT = try_context()
needs_egl = pytest.mark.skipif(NO_CONTEXT is not None, reason=str(NO_CONTEXT))


@pytest.fixture(scope="module", autouse=True)
def few_textures():
    """A small catalogue: textures take most of the time and are not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "TEXTURE_COUNT", 24)
        catalogue.load_catalogue.cache_clear()
        yield
    catalogue.load_catalogue.cache_clear()


@pytest.fixture(scope="module")
def drawer(few_textures):
    made = generate.make_renderer(SETTINGS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shard(drawer):
    return generate.render_room(drawer, SETTINGS, seed=3)


def box_room(size, placed=()):
    """A bare room, all of its shell one plain material."""
    w, d, h = size
    x, y, z = np.array([w, 0, 0]), np.array([0, d, 0]), np.array([0, 0, h])
    low = np.array([-w / 2, -d / 2, 0])
    sides = [(low, x, y), (low + z, x, y), (low, x, z), (low + y, x, z), (low, y, z)]
    shell = merge([quad(*side, (1, 1)) for side in [*sides, (low + x, y, z)]])
    rows = np.stack([material_row((0.5, 0.5, 0.5))] * len(shell.materials))
    light = [Light(np.array([0, 0, h * 0.9]), np.ones(3))]
    empty = np.zeros((0, 2, 3))
    return Room(np.array(size), shell, rows, list(placed), empty, light, None, np.ones((2, 3)))


def closed_form_depth(size, intrinsics, pose):
    """Depth in an empty box: the nearest wall that a pixel's ray leaves through."""
    w, h = SIZE
    v, u = np.mgrid[0:h, 0:w]
    rays = np.stack(
        [
            (u - intrinsics[0, 2]) / intrinsics[0, 0],
            (v - intrinsics[1, 2]) / intrinsics[1, 1],
            np.ones((h, w)),
        ],
        axis=-1,
    )
    rays = rays @ pose[:3, :3].T
    high = np.array([size[0] / 2, size[1] / 2, size[2]])
    low = np.array([-size[0] / 2, -size[1] / 2, 0.0])
    wall = np.where(rays > 0, high, low)
    return ((wall - pose[:3, 3]) / rays).min(axis=-1)


@needs_egl
def test_depth_of_an_empty_room_equals_the_closed_form(drawer):
    size = (4.0, 3.0, 2.5)
    drawer.load(box_room(size))
    intrinsics = intrinsics_from_fov(70, SIZE)
    intrinsics[0, 2] += 5.3  # off-centre, and not square pixels
    intrinsics[1, 1] *= 1.2
    for eye, target in (((0.5, -0.4, 1.3), (1.9, 1.2, 0.4)), ((-1.5, 1, 2.2), (1, -1, 0.2))):
        pose = look_at(np.array(eye), np.array(target), roll=0.2)
        frame = drawer.render(intrinsics, pose)
        np.testing.assert_allclose(
            frame.depth, closed_form_depth(size, intrinsics, pose), rtol=2e-5
        )
        assert (frame.radiance > 0).all()


@needs_egl
def test_a_placed_piece_is_where_its_matrix_says(drawer, monkeypatch):
    cube = catalogue.Piece("cube", box((0.4, 0.6, 1.0)), "floor")
    monkeypatch.setattr(drawer.catalogue, "pieces", [*drawer.catalogue.pieces, cube])
    index = len(drawer.catalogue.pieces) - 1
    # Turned by a quarter, twice as large: 1.2 x 0.8 x 2, so that its front is at y = 1 - 0.4.
    row = np.stack([material_row((0.2, 0.4, 0.1))])
    spot = Placed(index, np.array([0.3, 1.0, 0.0]), np.pi / 2, 2.0, row)
    drawer.load(box_room((6.0, 6.0, 3.0), [spot]))
    intrinsics = intrinsics_from_fov(60, SIZE)
    eye = np.array([0.3, -1.5, 1.0])
    frame = drawer.render(intrinsics, look_at(eye, eye + [0, 1, 0]))
    columns = (np.arange(SIZE[0]) - intrinsics[0, 2]) / intrinsics[0, 0] * 2.1
    rows = (np.arange(SIZE[1]) - intrinsics[1, 2]) / intrinsics[1, 1] * 2.1
    inside = (np.abs(columns) < 0.6)[None] & (np.abs(rows) < 1.0)[:, None]
    np.testing.assert_allclose(frame.depth[inside], 2.1, rtol=2e-5)
    assert inside.sum() > 300
    assert (frame.depth[~inside] > 2.2).all()
    # Its material, not the grey of the walls.
    red, green, blue = frame.radiance[SIZE[1] // 2, SIZE[0] // 2]
    assert green > 1.5 * red > 1.5 * blue


@needs_egl
def test_pixels_seen_twice_have_one_point_and_like_colours(drawer):
    room = layout.sample_room(drawer.catalogue, 5)
    rng = np.random.default_rng(1)
    intrinsics, poses = sample_cameras(rng, room, SIZE, SETTINGS.cameras)
    drawer.load(room)
    frames = [drawer.render(k, pose) for k, pose in zip(intrinsics, poses, strict=True)]
    depths = np.stack([frame.depth for frame in frames])
    table = pair_table(depths, intrinsics, poses, stride=2)
    i, j = table.indices[table.overlap.argmax()]
    points, u, v, z = reproject(depths[i], intrinsics[[i, j]], poses[[i, j]])
    inside = (z > 0) & (u >= 0) & (u < SIZE[0] - 1) & (v >= 0) & (v < SIZE[1] - 1)
    # Inverse depth is linear on a plane, so that interpolating it is exact there.
    there = 1 / bilinear(1 / depths[j].astype(float), u, v)
    same = inside & (np.abs(there - z) < 0.01 * z)
    assert same.sum() > 0.4 * same.size
    assert np.median(np.abs(there - z)[same] / z[same]) < 1e-5
    first, second = (np.log(frames[k].radiance + 0.05) for k in (i, j))
    at = np.stack([bilinear(second[..., c], u, v) for c in range(3)], axis=-1)
    shifted = np.stack([bilinear(second[..., c], u + 2, v) for c in range(3)], axis=-1)
    error = np.abs(at - first)[same].mean()
    assert error < 0.12
    assert error < 0.6 * np.abs(shifted - first)[same].mean()


def reproject(depth, intrinsics, poses):
    v, u = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    k = intrinsics.astype(float)
    local = np.stack(
        [(u - k[0, 0, 2]) / k[0, 0, 0] * depth, (v - k[0, 1, 2]) / k[0, 1, 1] * depth, depth], -1
    )
    world = local @ poses[0, :3, :3].T.astype(float) + poses[0, :3, 3]
    other = (world - poses[1, :3, 3]) @ poses[1, :3, :3].astype(float)
    z = other[..., 2]
    safe = np.where(np.abs(z) < 1e-6, 1e-6, z)
    column = other[..., 0] / safe * k[1, 0, 0] + k[1, 0, 2]
    row = other[..., 1] / safe * k[1, 1, 1] + k[1, 1, 2]
    return world, column, row, z


def bilinear(image, u, v):
    h, w = image.shape
    x, y = np.clip(u, 0, w - 1.001), np.clip(v, 0, h - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    a, b = x - x0, y - y0
    top = image[y0, x0] * (1 - a) + image[y0, x0 + 1] * a
    bottom = image[y0 + 1, x0] * (1 - a) + image[y0 + 1, x0 + 1] * a
    return top * (1 - b) + bottom * b


@needs_egl
def test_supersampling_keeps_depth_and_softens_colours(drawer):
    room = layout.sample_room(drawer.catalogue, 2)
    rng = np.random.default_rng(0)
    intrinsics, poses = sample_cameras(rng, room, SIZE, SETTINGS.cameras)
    plain = renderer.RoomRenderer(drawer.catalogue, SIZE, supersample=1)
    try:
        plain.load(room)
        sharp = plain.render(intrinsics[0], poses[0])
    finally:
        plain.close()
    drawer.load(room)
    soft = drawer.render(intrinsics[0], poses[0])
    agree = np.isclose(sharp.depth, soft.depth, rtol=1e-4)
    assert agree.mean() > 0.995  # silhouettes may fall on either side by rounding
    rough = [np.abs(np.diff(frame.radiance, axis=1)).mean() for frame in (sharp, soft)]
    assert rough[1] < 0.95 * rough[0]


@needs_egl
def test_same_seed_same_bytes_and_another_seed_others(drawer, shard, tmp_path):
    again = generate.render_room(drawer, SETTINGS, seed=3)
    other = generate.render_room(drawer, SETTINGS, seed=4)
    files = []
    for k, item in enumerate((shard, again, other)):
        generate.write_shard(tmp_path / f"{k}.safetensors", item)
        files.append((tmp_path / f"{k}.safetensors").read_bytes())
    assert files[0] == files[1]
    assert not np.array_equal(shard.images, other.images)
    assert not np.allclose(shard.cam2world, other.cam2world)


@needs_egl
def test_shard_holds_what_was_written(shard, tmp_path):
    path = tmp_path / "room.safetensors"
    generate.write_shard(path, shard)
    back = read_shard(path)
    for name in ("images", "depths", "intrinsics", "cam2world"):
        np.testing.assert_array_equal(getattr(back, name), getattr(shard, name))
    np.testing.assert_array_equal(back.pairs.overlap, shard.pairs.overlap)
    assert back.about == shard.about
    assert shard.images.std() > 15 and (shard.depths > 0).all()


@pytest.fixture(scope="module")
def folder(drawer, tmp_path_factory):
    path = tmp_path_factory.mktemp("rooms")
    generate.generate_rooms(path, 2, SETTINGS, seed=7, progress=False)
    return path


@needs_egl
def test_generating_again_keeps_rooms_and_adds_missing_ones(folder, monkeypatch):
    first, second = shard_path(folder, 7), shard_path(folder, 8)
    content, made = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    paths = generate.generate_rooms(folder, 2, SETTINGS, seed=7, progress=False)
    assert paths == [first, second]
    assert first.stat().st_mtime_ns == made
    assert second.read_bytes() == content
    monkeypatch.setattr(generate, "make_renderer", pytest.fail)
    generate.generate_rooms(folder, 2, SETTINGS, seed=7, progress=False)


@needs_egl
def test_a_folder_of_other_settings_is_refused(folder):
    with pytest.raises(ValueError, match="other settings"):
        generate.generate_rooms(folder, 2, generate.RoomSettings(), progress=False)


@needs_egl
def test_reader_gives_exact_samples(folder):
    source = make_source({"reader": "rooms", "root": str(folder), "overlap": (0.15, 1.0)})
    assert len(source.frames) == 12
    sample = PairDataset(source, SIZE)[0]
    first, second = source.pair(0)
    stored = read_shard(shard_path(folder, 7))
    view = int(first.name.split("/")[1])
    np.testing.assert_array_equal(sample["depth1"], stored.depths[view].astype(np.float32))
    pixels = sample["pixel_values1"].permute(1, 2, 0).numpy()
    np.testing.assert_allclose((pixels + 1) * 127.5, stored.images[view], atol=1e-3)
    # A point of view 1 falls on its own pixel, and into view 2 at the depth seen there.
    world = sample["pointmap1"].double().numpy()
    for pose, k in ((first.cam2world, first.intrinsics),):
        local = (world - pose[:3, 3]) @ pose[:3, :3].astype(float)
        uv = local @ k.T.astype(float)
        rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
        np.testing.assert_allclose(uv[..., 0] / uv[..., 2], columns, atol=1e-3)
        np.testing.assert_allclose(uv[..., 1] / uv[..., 2], rows, atol=1e-3)


@needs_egl
def test_reader_ranges_select_pairs(folder):
    everything = make_source({"reader": "rooms", "root": str(folder), "overlap": (0.0, 1.0)})
    shards = [read_shard(shard_path(folder, seed)) for seed in (7, 8)]
    rotation = np.concatenate([s.pairs.rotation for s in shards])
    assert len(everything) == len(rotation)
    middle = float(np.median(rotation))
    spec = {"reader": "rooms", "root": str(folder), "overlap": (0.0, 1.0)}
    near = make_source(spec | {"rotation": (0.0, middle)})
    far = make_source(spec | {"rotation": (middle + 1e-4, 180.0)})
    assert len(near) + len(far) == len(rotation) and len(near) >= len(far) > 0
    one = make_source(spec | {"first": 1, "limit": 1})
    assert len(one) == len(shards[1].pairs.rotation)
    assert one.frames[0].name.startswith("room-0000008")
    with pytest.raises(ValueError, match="pair"):
        make_source(spec | {"rotation": (179.9, 180.0)})


def test_reader_of_an_empty_folder_says_how_to_make_rooms(tmp_path):
    with pytest.raises(ValueError, match="croco3d data render"):
        make_source({"reader": "rooms", "root": str(tmp_path)})


@needs_egl
def test_command_renders_rooms(tmp_path):
    from croco3d.cli.program import build_app

    out = tmp_path / "rooms"
    arguments = "--rooms 1 --views 2 --size 32x24 --split train --source shapes --seed 5".split()
    result = CliRunner().invoke(build_app(), ["data", "render", "--out", str(out), *arguments])
    assert result.exit_code == 0, result.output
    shard = read_shard(shard_path(out, 5))
    assert shard.images.shape == (2, 24, 32, 3)
    assert shard.about["split"] == "train"
    assert json.loads((out / "dataset.json").read_text())["cameras"]["views"] == 2
    assert (out / "attributions.csv").read_text().startswith("id,name,creator,license")


def test_missing_driver_names_the_packages(monkeypatch):
    moderngl = pytest.importorskip("moderngl")

    def fail(**options):
        raise RuntimeError("libEGL.so not loaded")

    monkeypatch.setattr(moderngl, "create_context", fail)
    with pytest.raises(renderer.RendererUnavailableError, match="libegl1.*libgl1-mesa-dri"):
        renderer.create_context()


def test_missing_moderngl_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(renderer.RendererUnavailableError, match=r"croco3d\[synthetic\]"):
        renderer.create_context()


def test_bad_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="workers=0"):
        generate.generate_rooms(tmp_path, 1, SETTINGS, workers=0)
    with pytest.raises(ValueError, match="supersample"):
        renderer.RoomRenderer(catalogue.load_catalogue("train", "shapes"), SIZE, supersample=3)


@pytest.mark.parametrize("name", ["near", "wide"])
def test_recipe_of_a_test_set_keeps_its_promises(name):
    recipe = testsets.load_recipe()
    views, measured = np.array(recipe[name]["views"]), np.array(recipe[name]["measured"])
    assert views.shape == (200, 3) and len(np.unique(views, axis=0)) == 200
    assert len(np.unique(views[:, 0])) >= 40  # of 50 rooms
    overlap, rotation, _, relative = measured.T
    if name == "near":
        assert overlap.min() >= 0.5 and rotation.max() <= 30 and relative.max() <= 1 / 3 + 1e-3
    else:
        assert overlap.min() >= 0.2 and np.median(rotation) > 15
    forward = np.array([room["forward"] for room in recipe["rooms"]])
    cosine = (forward[views[:, 0], views[:, 1]] * forward[views[:, 0], views[:, 2]]).sum(axis=1)
    # The optical axes turn by no more than the cameras do.
    assert (np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= rotation + 0.1).all()


def test_a_changed_recipe_is_refused(monkeypatch):
    testsets.load_recipe.cache_clear()
    monkeypatch.setattr(testsets, "CHECKSUM", hashlib.sha256(b"").hexdigest())
    with pytest.raises(ValueError, match="checksum"):
        testsets.load_recipe()
    testsets.load_recipe.cache_clear()


def test_unknown_test_set_lists_choices():
    with pytest.raises(ValueError, match="near.*wide"):
        testsets.test_set("far")  # pyright: ignore[reportArgumentType]


@needs_egl
@pytest.mark.slow
@pytest.mark.skipif(
    not catalogue.uses_furniture("auto"), reason="sweethome3d-furniture is not installed"
)
def test_test_set_renders_as_its_recipe_says(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "TEXTURE_COUNT", 384)
    catalogue.load_catalogue.cache_clear()
    paths = generate.generate_rooms(tmp_path, 2, testsets.recipe_settings(), progress=False)
    recipe = testsets.load_recipe()
    for path, room in zip(paths, recipe["rooms"], strict=False):
        testsets._check_room(path, room)
    shards = [read_shard(path) for path in paths]
    assert [s.about["fingerprint"] for s in shards] == [
        room["fingerprint"] for room in recipe["rooms"][:2]
    ]
    catalogue.load_catalogue.cache_clear()


@needs_egl
@pytest.mark.slow
def test_two_workers_render_the_same_as_one(folder, tmp_path):
    arguments = "--rooms 2 --views 6 --size 64x48 --source shapes --seed 7".split()
    command = [sys.executable, "-m", "croco3d.data.synthetic", "--out"]
    digests = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        run = [*command, str(out), *arguments, "--workers", workers]
        subprocess.run(run, check=True, env=os.environ | {"LP_NUM_THREADS": "1"})
        digests.append([shard_path(out, seed).read_bytes() for seed in (7, 8)])
    assert digests[0] == digests[1]


def test_bundled_room_agrees_with_itself():
    folder = importlib.resources.files("croco3d") / "assets" / "demo_room"
    truth = load_file(str(folder / "truth.safetensors"))
    depths, poses = truth["depth"].astype(np.float64), truth["cam2world"]
    intrinsics = truth["intrinsics"].astype(np.float64)
    assert depths.shape == (6, 192, 256) and (depths > 0).all()
    # Depth is of every second pixel: pixel (u, v) of the depth is pixel (2 u, 2 v) of the picture.
    intrinsics[:, :2] /= 2
    pictures = [np.asarray(Image.open(str(folder / f"view_{k}.jpg"))) for k in range(6)]
    assert all(picture.shape == (384, 512, 3) for picture in pictures)
    for other in range(1, 6):
        _, u, v, z = reproject(depths[0], intrinsics[[0, other]], poses[[0, other]])
        inside = (z > 0) & (u >= 0) & (u < 255) & (v >= 0) & (v < 191)
        there = 1 / bilinear(1 / depths[other], u, v)
        same = inside & (np.abs(there - z) < 0.01 * z)
        assert same.mean() > 0.3
        grey = [picture[::2, ::2].mean(axis=-1) for picture in pictures]
        at, shifted = bilinear(grey[other], u, v), bilinear(grey[other], u + 4, v)
        error = np.abs(at - grey[0])[same].mean()
        assert error < 0.75 * np.abs(shifted - grey[0])[same].mean()
