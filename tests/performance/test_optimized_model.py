import pytest
import torch
from torch import nn

from croco3d.modeling.croco import CrocoConfig, CrocoForPreTraining
from croco3d.modeling.decoders import PairDecoderConfig
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.modeling.encoders import CrocoEncoderConfig
from croco3d.modeling.heads import DptHeadConfig, LinearHeadConfig, dpt
from croco3d.modeling.inference.convolution import NnpackConv2d, suits_nnpack
from croco3d.modeling.inference.packed import PackedLinear, can_pack
from croco3d.modeling.layers.attention import lean_attention

needs_onednn = pytest.mark.skipif(not can_pack(torch.float32), reason="no oneDNN in this build")


def make_model(head="dpt"):
    torch.manual_seed(0)
    heads = {
        "dpt": DptHeadConfig(level_channels=(16, 16, 16, 16), fusion_channels=96),
        "linear": LinearHeadConfig(),
    }
    config = Dust3rConfig(
        encoder_config=CrocoEncoderConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64
        ),
        decoder_config=PairDecoderConfig(
            hidden_size=32, num_hidden_layers=4, num_attention_heads=2
        ),
        head_config=heads[head],
    )
    return Dust3rForStereo(config).eval()


def images(height=48, width=80, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, height, width, generator=generator) * 2 - 1 for _ in range(2)]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@needs_onednn
@pytest.mark.parametrize("head", ["dpt", "linear"])
def test_the_optimized_model_predicts_the_same(head):
    model, pair = make_model(head), images()
    with torch.no_grad():
        plain = model(*pair)
        fast = model.optimize_for_inference()(*pair)
    assert any(isinstance(module, PackedLinear) for module in model.modules())
    for name in ("pointmap1", "pointmap2", "confidence1", "confidence2"):
        assert relative(fast[name], plain[name]) < 1e-5


@needs_onednn
def test_restore_brings_back_every_layer_and_weight():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = dict(model.named_modules())
    packed = model.optimize_for_inference().state_dict()
    model.restore()
    after = model.state_dict()
    assert list(after) == list(before) and set(packed) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(torch.equal(packed[name], value) for name, value in before.items())
    assert dict(model.named_modules()) == layers
    model(*images()).pointmap1.sum().backward()
    assert model.encoder.blocks[0].attention.qkv.weight.grad is not None


@needs_onednn
def test_an_optimized_model_can_be_saved(tmp_path):
    model, pair = make_model(), images()
    with torch.no_grad():
        expected = model.optimize_for_inference()(*pair).pointmap1
        model.save_pretrained(tmp_path)
        loaded = Dust3rForStereo.from_pretrained(tmp_path)(*pair).pointmap1
    assert relative(loaded, expected) < 1e-5


@needs_onednn
def test_an_optimized_model_refuses_changes_that_would_be_lost():
    model = make_model().optimize_for_inference()
    model.to("cpu")
    for change in (
        lambda: model.to(torch.bfloat16),
        lambda: model.load_state_dict(model.state_dict()),
    ):
        with pytest.raises(ValueError, match="restore"):
            change()


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no bfloat16 in this CPU's oneDNN")
def test_bfloat16_keeps_heads_in_float32_and_stays_close():
    model, pair = make_model(), images()
    with torch.no_grad():
        plain = model(*pair)
        half = model.optimize_for_inference(torch.bfloat16)(*pair)
    assert half.pointmap1.dtype == torch.float32
    assert model.head1.predict_raw.weight.dtype == torch.float32
    assert model.encoder.norm.weight.dtype == torch.bfloat16
    assert relative(half.pointmap1, plain.pointmap1) < 0.05


@needs_onednn
def test_optimizing_twice_is_optimizing_once():
    model = make_model().optimize_for_inference().optimize_for_inference()
    assert isinstance(model.encoder.blocks[0].mlp.fc1, PackedLinear)
    assert isinstance(model.restore().encoder.blocks[0].mlp.fc1, nn.Linear)
    assert isinstance(model.encoder.blocks[0].mlp.act, nn.GELU)


@needs_onednn
def test_weights_of_a_type_of_their_own_are_left_alone():
    class Quantised(nn.Parameter):
        pass

    model = make_model()
    attention, mlp = model.encoder.blocks[0].attention, model.decoder.blocks1[0].mlp
    attention.qkv.weight = Quantised(attention.qkv.weight.detach())
    mlp.fc1.weight = Quantised(mlp.fc1.weight.detach())
    with torch.no_grad():
        expected = model(*images()).pointmap1
        found = model.optimize_for_inference()(*images()).pointmap1
    assert model.encoder.blocks[0].attention is attention
    assert isinstance(attention.proj, PackedLinear) and type(attention.qkv) is nn.Linear
    assert type(mlp.fc1) is nn.Linear and isinstance(mlp.act, nn.GELU)
    assert relative(found, expected) < 1e-5


@needs_onednn
def test_attention_maps_and_missing_rotary_positions_survive_optimizing():
    model, pair = make_model(), images()
    model.decoder.config.rotary_base = None
    with torch.no_grad():
        expected = model(*pair, output_attentions=True)
        found = model.optimize_for_inference()(*pair, output_attentions=True)
    assert relative(found.pointmap2, expected.pointmap2) < 1e-5
    for name in ("cross_attentions1", "cross_attentions2"):
        for value, truth in zip(found[name], expected[name], strict=True):
            assert relative(value, truth) < 1e-5


@needs_onednn
def test_croco_runs_optimized_with_a_mask():
    config = CrocoConfig(
        encoder_config=CrocoEncoderConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64
        )
    )
    torch.manual_seed(0)
    model = CrocoForPreTraining(config).eval()
    first, second = images(64, 64)
    mask = torch.arange(16).expand(2, -1) % 4 > 0
    with torch.no_grad():
        plain = model(first, second, mask).prediction
        fast = model.optimize_for_inference()(first, second, mask).prediction
    assert relative(fast, plain) < 1e-5


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="no NNPACK in this build")
@pytest.mark.parametrize("height, width", [(24, 32), (13, 40), (6, 130), (4, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_nnpack_computes_the_convolution_at_any_size(height, width, bias):
    torch.manual_seed(height)
    conv = nn.Conv2d(96, 97, 3, padding=1, bias=bias)
    assert suits_nnpack(conv)
    x = torch.randn(2, 96, height, width)
    with torch.no_grad():
        expected = nn.functional.conv2d(
            x.double(),
            conv.weight.double(),
            None if conv.bias is None else conv.bias.double(),
            padding=1,
        )
        assert relative(NnpackConv2d(conv)(x).double(), expected) < 2e-5


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_enlarging_in_strips_changes_nothing(rows, monkeypatch):
    torch.manual_seed(rows)
    conv, x, size = nn.Conv2d(3, 4, 3, padding=1), torch.randn(2, 3, 6, 5), (17, 11)
    expected = conv(nn.functional.interpolate(x, size, mode="bilinear", align_corners=True))
    monkeypatch.setattr(dpt, "STRIP_VALUES", rows * 2 * 3 * 11)
    heights = []
    with torch.no_grad():
        found = dpt.enlarge_and_convolve(
            x, size, lambda strip: heights.append(strip.shape[-2]) or conv(strip)
        )
    assert max(heights) <= rows + 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_lean_attention_is_scaled_dot_product_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, scale=0.3)
    torch.testing.assert_close(lean_attention(query, key, value, 0.3), expected.transpose(1, 2))
