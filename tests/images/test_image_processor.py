import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from croco3d.images import ImageError
from croco3d.modeling.dust3r.image_processing_dust3r import Dust3rImageProcessor
from croco3d.modeling.outputs import StereoOutput

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "preprocess" / "case.json").read_text())


@pytest.fixture(scope="module")
def expected():
    return load_file(GOLDEN / "preprocess" / "expected.safetensors")


def golden_photo(width, height):
    sys.path.insert(0, str(GOLDEN))
    try:
        import synth
    finally:
        sys.path.remove(str(GOLDEN))
    values = synth.image(f"photo/{width}x{height}", [1, 3, height, width], CASES["seed"])
    return ((values + 1) * 127.5).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)


def smooth_photo(width, height, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["key"])
def test_network_input_matches_the_published_preprocessing(case, expected):
    processor = Dust3rImageProcessor(size=case["size"], square_ok=case["square_ok"])
    inputs = processor(Image.fromarray(golden_photo(case["width"], case["height"])))
    pixels = inputs.pixel_values
    assert list(pixels.shape[-2:]) == case["true_shape"] == inputs.true_shape[0].tolist()
    # One grey level of 255 is 1 / 127.5 after normalisation.
    assert (pixels[..., ::8, ::8] - expected[case["key"]]).abs().max() <= 1 / 127.5
    assert pixels.mean().item() == pytest.approx(case["mean"], abs=1e-5)
    assert pixels.std().item() == pytest.approx(case["std"], abs=1e-4)


def test_large_photographs_stay_within_a_grey_level_of_pillow():
    photo = smooth_photo(2700, 1900)
    photo = np.clip(photo + np.random.default_rng(1).normal(0, 9, photo.shape), 0, 255)
    photo = photo.astype(np.uint8)
    pixels = Dust3rImageProcessor(size=512)(photo).pixel_values[0]
    resized = Image.fromarray(photo).resize((512, 360), Image.Resampling.LANCZOS)
    reference = torch.from_numpy(np.array(resized))[4:356].permute(2, 0, 1)
    assert ((pixels + 1) * 127.5 - reference).abs().max() <= 1.001


@pytest.mark.parametrize(("width", "height"), [(640, 480), (517, 389), (480, 641), (100, 60)])
@pytest.mark.parametrize("size", [224, 512])
def test_transform_finds_what_the_network_saw(width, height, size):
    """A ramp photographed through the processor says which original pixel each input pixel is."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([columns / width, rows / height, 0 * rows], axis=-1).astype(np.float32)
    processor = Dust3rImageProcessor(size=size)
    inputs = processor(ramp)
    seen = ((inputs.pixel_values[0] + 1) / 2 * torch.tensor([width, height, 0]).view(3, 1, 1))[:2]
    h, w = inputs.true_shape[0].tolist()
    grid = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy"), dim=-1)
    mapped = processor.matches_to_original(grid.reshape(-1, 2).float(), inputs, 0)
    error = (mapped.reshape(h, w, 2) - seen.permute(1, 2, 0))[8:-8, 8:-8]
    # Single values are off by the rounding to 8 bits; regions are not.
    for region in (error[: h // 3, : w // 3], error[-h // 3 :, -w // 3 :]):
        assert region.mean((0, 1)).abs().max() < 0.25


@pytest.mark.parametrize(("width", "height"), [(640, 480), (389, 517), (500, 500), (1501, 700)])
def test_post_process_round_trip_is_under_half_a_pixel(width, height):
    """A plane seen by the network's camera projects back to the photograph's own pixels."""
    processor = Dust3rImageProcessor(size=512)
    inputs = processor([smooth_photo(width, height), smooth_photo(640, 480)])
    h, w = inputs.true_shape[0].tolist()
    intrinsics = torch.tensor([[400.0, 0, w / 2], [0, 410.0, h / 2], [0, 0, 1]])
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    rays = (
        torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).float() @ intrinsics.inverse().T
    )
    plane = rays * (5 / (rays @ torch.tensor([0.2, 0.1, 1.0])))[..., None]
    other = torch.ones(*inputs.true_shape[1].tolist(), 3)
    outputs = StereoOutput(
        pointmap1=plane[None], pointmap2=other[None], confidence1=plane[None, ..., 2]
    )
    result = processor.post_process(outputs, inputs)[0]
    assert result["pointmap1"].shape == (height, width, 3)
    assert result["pointmap2"].shape == (480, 640, 3)
    torch.testing.assert_close(result["confidence1"], result["depth1"])

    camera = processor.intrinsics_to_original(intrinsics, inputs, 0)
    projected = result["pointmap1"] @ camera.T
    projected = projected[..., :2] / projected[..., 2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    error = (projected - torch.stack([columns, rows], dim=-1)).norm(dim=-1)
    inside = result["inside1"]
    # Beyond the centre of the outermost network pixel there is nothing to interpolate.
    margin = math.ceil(max(width, height) / 512)
    core = F.max_pool2d(~inside[None] * 1.0, 2 * margin + 1, 1, margin)[0] == 0
    core[:margin] = core[-margin:] = core[:, :margin] = core[:, -margin:] = False
    assert core.float().mean() > 0.7
    assert error[core].max() < 0.5


def test_sizes_and_orientations_may_differ_in_one_call():
    inputs = Dust3rImageProcessor()([smooth_photo(640, 480), smooth_photo(480, 640)])
    assert [tuple(p.shape) for p in inputs.pixel_values] == [(1, 3, 384, 512), (1, 3, 512, 384)]
    assert inputs.original_sizes.tolist() == [[480, 640], [640, 480]]


def test_other_patch_and_normalisation():
    processor = Dust3rImageProcessor(
        size=518, patch_size=14, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]
    )
    grey = np.full((600, 600, 3), 128, np.uint8)
    inputs = processor(grey)
    assert inputs.true_shape.tolist() == [[378, 518]]
    expected = (128 / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.25, 0.3])
    torch.testing.assert_close(inputs.pixel_values[0, :, 7, 9], expected)


def test_saved_processor_gives_the_same(tmp_path):
    processor = Dust3rImageProcessor(size=224, patch_size=14, image_mean=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path)
    loaded = Dust3rImageProcessor.from_pretrained(tmp_path)
    photo = smooth_photo(300, 200)
    assert torch.equal(loaded(photo).pixel_values, processor(photo).pixel_values)
    assert loaded.to_dict() == processor.to_dict()


def test_options_at_the_call_and_misspelled_ones():
    processor = Dust3rImageProcessor()
    square = smooth_photo(300, 300)
    assert processor(square, square_ok=True).true_shape.tolist() == [[512, 512]]
    assert processor(square).true_shape.tolist() == [[384, 512]]
    with pytest.raises((TypeError, ValueError), match="squareok"):
        processor(square, squareok=True)
    with pytest.raises(ValueError, match="longest_edge"):
        Dust3rImageProcessor(size={"height": 224, "width": 224})


@pytest.mark.parametrize("shape", [(10, 700, 3), (900, 15, 3), (12, 12, 3)])
def test_an_image_under_one_patch_is_refused(shape):
    with pytest.raises(ImageError, match="less than one patch of 16"):
        Dust3rImageProcessor()(np.zeros(shape, np.uint8))


def test_wrong_maps_are_refused():
    processor = Dust3rImageProcessor()
    inputs = processor(smooth_photo(640, 480))
    with pytest.raises(ValueError, match=r"\(384, 512\).*\(100, 100\)"):
        processor.to_original(torch.zeros(100, 100), inputs, 0)
    with pytest.raises(ValueError, match="2 pairs"):
        processor.post_process(StereoOutput(pointmap1=torch.zeros(2, 4, 4, 3)), inputs)
