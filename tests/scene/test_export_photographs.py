from dataclasses import replace

import numpy as np
import pytest
from analytic_scene import SIZE, analytic_scene
from PIL import Image

from croco3d.scene.export.photographs import depth_in_photograph, file_names, write_photographs


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return analytic_scene(2, tmp_path / "in")


def test_ordinary_photographs_are_copied_byte_by_byte(scene, tmp_path):
    write_photographs(scene, tmp_path / "out")
    for index in range(2):
        copied = (tmp_path / "out" / f"photo_{index}.png").read_bytes()
        assert copied == (tmp_path / "in" / f"photo_{index}.png").read_bytes()


def test_photographs_turned_by_a_tag_come_out_upright(scene, tmp_path):
    upright = Image.open(scene.paths[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "in" / "turned.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=98, subsampling=0)
    turned = replace(scene, paths=[str(path), scene.paths[1]], names=["turned.jpg", "b.png"])
    write_photographs(turned, tmp_path / "out")
    with Image.open(tmp_path / "out" / "turned.jpg") as image:
        assert image.size == SIZE and image.getexif().get(0x0112, 1) == 1
        apart = np.abs(np.asarray(image).astype(int) - np.asarray(upright))
    assert np.median(apart) <= 3


def test_missing_photographs_are_replaced_in_place(scene, tmp_path, caplog):
    write_photographs(replace(scene, paths=[None, None]), tmp_path / "out")
    assert "not at hand" in caplog.text
    made = np.asarray(Image.open(tmp_path / "out" / "photo_0.png")).astype(int)
    truth = np.asarray(Image.open(scene.paths[0])).astype(int)
    assert made.shape == truth.shape
    # A shift by one original pixel would move colours by more than this.
    inside = np.abs(made - truth)[40:320]
    assert np.median(inside) <= 1


def test_changed_photographs_are_refused(scene, tmp_path):
    Image.new("RGB", (100, 80)).save(scene.paths[1])
    with pytest.raises(ValueError, match=r"photo_1\.png is 100 x 80 pixels, but was 480 x 360"):
        write_photographs(scene, tmp_path / "out")


def test_names_are_unique_and_stay_in_the_folder(scene):
    names = ["../../etc/a.JPG", "other\\a.jpg"]
    assert file_names(replace(scene, names=names, paths=["x/a.JPG", "y/a.jpg"])) == [
        "a.JPG",
        "a_1.jpg",
    ]
    names = ["clip.mp4:10", "IMG.heic"]
    assert file_names(replace(scene, names=names, paths=[None, "IMG.heic"])) == [
        "clip.png",
        "IMG.jpg",
    ]


def test_depth_keeps_out_what_the_map_does_not_cover(scene):
    depth = depth_in_photograph(scene, 0, scene.mask()[0])
    assert depth.shape == (SIZE[1], SIZE[0])
    # The maps were cropped by 8 rows at the top: 30 rows of the photograph.
    assert (depth[:29] == 0).all() and (depth[31:325] > 0).all() and (depth[-25:] == 0).all()
