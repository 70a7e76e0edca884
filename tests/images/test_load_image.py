import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from croco3d.images import (
    ImageError,
    find_images,
    load_image,
    read_frames,
    split_origin,
    video_frames,
)


@pytest.fixture
def photo():
    rows, columns = np.mgrid[:40, :64]
    return np.stack([columns * 3, rows * 5, (rows + columns) * 2], axis=-1).astype(np.uint8)


# What each EXIF orientation says must be done to the stored pixels (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photo, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "a.png"), UPRIGHT[orientation](photo))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "RGB"])
def test_modes_become_rgb(photo, tmp_path, mode):
    image = Image.fromarray(photo).convert(mode)
    image.save(tmp_path / "a.tif")
    assert np.array_equal(load_image(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_over_white(photo, tmp_path):
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, :20], alpha[:, 20:40] = 255, 51
    layer = np.dstack([photo, alpha])
    Image.fromarray(layer).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png").astype(float)
    share = alpha[..., None] / 255
    np.testing.assert_allclose(loaded, photo * share + 255 * (1 - share), atol=1)
    assert np.array_equal(load_image(layer), loaded)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_greyscale_keeps_its_range(tmp_path, suffix):
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert np.array_equal(loaded[..., 0].ravel(), np.arange(256))
    assert np.array_equal(load_image(values), loaded)


def test_arrays_and_tensors(photo):
    assert np.array_equal(load_image(photo), photo)
    assert np.array_equal(load_image(photo.astype(np.float32) / 255), photo)
    assert np.array_equal(load_image(torch.from_numpy(photo).permute(2, 0, 1)), photo)
    assert load_image(photo[..., 0]).shape == (40, 64, 3)
    with pytest.raises(ImageError, match="from 0 to 195"):
        load_image(photo.astype(np.float32)[..., 1])
    with pytest.raises(ImageError, match="int64"):
        load_image(photo.astype(np.int64))
    with pytest.raises(ImageError, match=r"\(40, 64, 2\)"):
        load_image(photo[..., :2])
    with pytest.raises(ImageError, match="got int"):
        load_image(3)


def test_heic(photo, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    smooth = np.asarray(Image.fromarray(photo).resize((256, 160)))
    heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "a.heic", quality=95)
    assert np.abs(load_image(tmp_path / "a.heic").astype(int) - smooth).mean() < 4


def test_heic_without_the_extra_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.HEIC").write_bytes(b"x")
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImageError, match=r"croco3d\[heic\]"):
        load_image(tmp_path / "a.HEIC")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_truncated_files_are_refused_by_name(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"cut\.\w+ (cannot be read|is not an image)"):
        load_image(path)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for name, message in [
        ("missing.jpg", "does not exist"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "not an image"),
        (".", "is a folder"),
    ]:
        with pytest.raises(ImageError, match=message):
            load_image(tmp_path / name)


def test_folders_are_listed_in_order_and_names_are_unique(photo, tmp_path):
    for name in ("b/2.png", "b/1.png", "c/1.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / name, format="png")
    found = find_images([tmp_path / "b", tmp_path / "c", photo])
    assert [image.name for image in found] == ["b_1.png", "2.png", "c_1.png", "image_003"]
    assert found[0].path == str(tmp_path / "b" / "1.png")
    assert found[3].path is None
    again = find_images([tmp_path / "b" / "1.png", tmp_path / "b" / "1.png"])
    assert len({image.name for image in again}) == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="holds no image"):
        find_images(tmp_path / "none")


def test_video_frames(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(7):
        writer.write(np.full((48, 64, 3), (0, 0, 30 * level), np.uint8))
    writer.release()
    frames = find_images(path, every=3)
    assert [frame.name for frame in frames] == [
        "clip_000000.png", "clip_000003.png", "clip_000006.png",
    ]  # fmt: skip
    # Red in OpenCV's BGR order is the first channel here.
    levels = [load_image(frame.source)[..., 0].mean() for frame in frames]
    np.testing.assert_allclose(levels, [0, 90, 180], atol=8)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.3, 0.6])
    assert split_origin(frames[1].origin) == (path, 3)
    again = list(read_frames(path, [3, 6]))
    assert all(np.array_equal(a, f.source) for a, f in zip(again, frames[1:], strict=True))
    with pytest.raises(ImageError, match="no frame 9"):
        list(read_frames(path, [3, 9]))
    with pytest.raises(ImageError, match="does not exist"):
        list(video_frames(tmp_path / "no.mp4"))
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(ImageError, match="not a video"):
        list(video_frames(tmp_path / "bad.mp4"))
    with pytest.raises(ValueError, match="every"):
        find_images(path, every=0)
