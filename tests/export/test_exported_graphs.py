import shutil

import pytest
import torch

from croco3d.export import FORMATS, capture, compare, export_model, output_names, run_exported
from croco3d.modeling.decoders import PairDecoderConfig
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.modeling.encoders import CrocoEncoderConfig
from croco3d.modeling.heads import DptHeadConfig, LinearHeadConfig, MatchingHeadConfig
from croco3d.modeling.mast3r import Mast3rConfig, Mast3rForStereo


def make_model(head):
    torch.manual_seed(0)
    points = DptHeadConfig(level_channels=(8, 8, 8, 8), fusion_channels=16)
    heads = {
        "linear": LinearHeadConfig(),
        "dpt": points,
        "matching": MatchingHeadConfig(points_config=points, descriptor_size=4),
    }
    parts = {
        "encoder_config": CrocoEncoderConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64
        ),
        "decoder_config": PairDecoderConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2
        ),
        "head_config": heads[head],
    }
    if head == "matching":
        return Mast3rForStereo(Mast3rConfig(**parts)).eval()
    return Dust3rForStereo(Dust3rConfig(**parts)).eval()


def images(batch, height, width):
    generator = torch.Generator().manual_seed(batch)
    return [torch.rand(batch, 3, height, width, generator=generator) * 2 - 1 for _ in range(2)]


def check_batch(model, path, format, batch, height, width):
    pair = images(batch, height, width)
    found = run_exported(path, format, pair)
    with torch.no_grad():
        expected = model(*pair, symmetrized=False)
    for name, value in zip(output_names(model), found, strict=True):
        assert float((value - expected[name]).norm() / expected[name].norm()) < 1e-3, name


@pytest.mark.parametrize(
    "head",
    ["linear", *(pytest.param(head, marks=pytest.mark.slow) for head in ("dpt", "matching"))],
)
def test_onnx_of_any_head_takes_any_batch(head, tmp_path):
    model = make_model(head)
    path = export_model(model, tmp_path / "model.onnx", "onnx", (48, 64))
    assert max(compare(model, path, "onnx", (48, 64)).values()) < 1e-3
    check_batch(model, path, "onnx", 3, 48, 64)


@pytest.mark.slow
def test_onnx_takes_other_sizes_where_asked(tmp_path):
    model = make_model("dpt")
    path = export_model(model, tmp_path / "model.onnx", "onnx", (48, 64), dynamic_size=True)
    check_batch(model, path, "onnx", 1, 80, 96)


def test_a_torch_export_package_takes_any_batch(tmp_path):
    model = make_model("linear")
    path = export_model(model, tmp_path / "model.pt2", "torch-export", (48, 64))
    check_batch(model, path, "torch-export", 3, 48, 64)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_an_aotinductor_package_runs(tmp_path):
    model = make_model("linear")
    path = export_model(model, tmp_path / "model.pt2", "aoti", (48, 64))
    check_batch(model, path, "aoti", 3, 48, 64)


def test_wrong_formats_and_sizes_are_named(tmp_path):
    model = make_model("linear")
    with pytest.raises(ValueError, match="tensorrt.*onnx"):
        export_model(model, tmp_path / "model", "tensorrt")
    with pytest.raises(ValueError, match="50x64"):
        capture(model, (50, 64))
    assert set(FORMATS) == {"onnx", "torch-export", "aoti"}


@pytest.mark.parametrize(
    ("head", "backend"), [("linear", "eager"), ("dpt", "eager"), ("linear", "aot_eager")]
)
def test_models_compile_into_one_graph(head, backend):
    model, pair = make_model(head), images(2, 48, 64)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = model(*pair, symmetrized=False).pointmap2
        compiled = torch.compile(model, fullgraph=True, backend=backend)
        found = compiled(*pair, symmetrized=False).pointmap2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
