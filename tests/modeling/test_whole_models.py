"""Whole models: any components together, orientation, symmetry, freezing, transformers' options."""

import itertools
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from croco3d.modeling import DECODERS, ENCODERS, HEADS
from croco3d.modeling.croco import CrocoConfig, CrocoForPreTraining
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.modeling.heads.postprocess import to_confidence, to_points

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402


def part(registry, kind: str, name: str, **changes) -> dict:
    options = getattr(tiny, kind)[name]
    return {"model_type": registry.config_class(name).model_type, **options, **changes}


def dust3r(encoder="croco", decoder="pair", head="linear", **changes) -> Dust3rForStereo:
    torch.manual_seed(0)
    config = Dust3rConfig(
        encoder_config=part(ENCODERS, "ENCODERS", encoder),
        decoder_config=part(DECODERS, "DECODERS", decoder),
        head_config=part(HEADS, "HEADS", head, **changes),
        image_size=48,
    )
    return Dust3rForStereo(config).eval()


def croco(**changes) -> CrocoForPreTraining:
    torch.manual_seed(0)
    config = CrocoConfig(
        encoder_config=part(ENCODERS, "ENCODERS", "croco"),
        decoder_config=part(DECODERS, "DECODERS", "single"),
        image_size=48,
        **changes,
    )
    return CrocoForPreTraining(config).eval()


def pair(batch=2, height=32, width=48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(2, batch, 3, height, width, generator=generator))


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Compares as the golden cases do: batches of other sizes round differently, and the last
    exponential enlarges that."""
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("encoder", "decoder", "head"),
    list(itertools.product(tiny.ENCODERS, ("pair", "shared_pair"), ("linear", "dpt", "matching"))),
)
def test_any_components_work_together(encoder, decoder, head):
    model = dust3r(encoder, decoder, head)
    output = model(*pair(), output_hidden_states=True, output_attentions=True)
    assert output.pointmap1.shape == output.pointmap2.shape == (2, 32, 48, 3)
    assert output.confidence1.shape == (2, 32, 48) and output.confidence1.min() >= 1
    assert len(output.hidden_states1) == 5
    attention = output.cross_attentions2[0]
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention.sum(-1)))


@pytest.mark.parametrize("head", ["linear", "dpt"])
def test_head_without_confidence(head):
    assert dust3r(head=head, confidence_mode=None)(*pair()).confidence1 is None


@pytest.mark.parametrize("mode", ["exp", "linear", "square"])
def test_depth_modes_keep_direction_and_bounds(mode):
    raw = torch.tensor([[3.0, 0.0, 4.0], [0.03, 0.0, 0.04]])
    grow = {"exp": torch.expm1, "linear": lambda x: x, "square": lambda x: x * x}[mode]
    expected = torch.tensor([[0.6, 0.0, 0.8]]) * grow(torch.tensor([[5.0], [0.05]]))
    torch.testing.assert_close(to_points(raw, mode, (-torch.inf, torch.inf)), expected)
    bounded = to_points(raw, mode, (1.0, 2.0)).norm(dim=-1)
    torch.testing.assert_close(bounded, torch.tensor([2.0, 1.0]))
    assert to_points(torch.zeros(1, 3), mode, (-torch.inf, torch.inf)).tolist() == [[0, 0, 0]]


def test_confidence_modes():
    raw = torch.tensor([-50.0, 0.0, 50.0])
    assert to_confidence(raw, "exp", (1.0, 9.0)).tolist() == [1.0, 2.0, 9.0]
    torch.testing.assert_close(
        to_confidence(raw, "sigmoid", (2.0, 4.0)), torch.tensor([2.0, 3.0, 4.0])
    )


@pytest.mark.parametrize("head", ["linear", "dpt"])
def test_mixed_orientation_equals_each_alone(head):
    model = dust3r(head=head)
    torch.manual_seed(1)
    wide, tall = torch.randn(2, 1, 3, 32, 48), torch.randn(2, 1, 3, 48, 32)
    stored1 = torch.cat((wide[0], tall[0].transpose(2, 3)))
    stored2 = torch.cat((tall[1].transpose(2, 3), tall[0].transpose(2, 3)))
    shapes1, shapes2 = torch.tensor([[32, 48], [48, 32]]), torch.tensor([[48, 32], [48, 32]])
    with torch.no_grad():
        mixed = model(stored1, stored2, shapes1, shapes2)
        first, second = model(wide[0], tall[1]), model(tall[0], tall[0])
    assert_same(mixed.pointmap1[0], first.pointmap1[0])
    assert_same(mixed.pointmap2[0], first.pointmap2[0].transpose(0, 1))
    assert_same(mixed.pointmap1[1], second.pointmap1[0].transpose(0, 1))
    assert_same(mixed.confidence2[1], second.confidence2[0].transpose(0, 1))


@pytest.mark.parametrize("symmetrized", [None, True])
def test_symmetrized_batch_encodes_each_image_once(symmetrized):
    model = dust3r()
    a, b = pair(batch=2)
    images1 = torch.stack((a, b), dim=1).flatten(0, 1)
    images2 = torch.stack((b, a), dim=1).flatten(0, 1)
    encoded = []
    model.encoder.patch_embed.register_forward_hook(
        lambda _, given, __: encoded.append(len(given[0]))
    )
    with torch.no_grad():
        once = model(images1, images2, symmetrized=symmetrized)
        assert encoded == [4]
        plain = model(images1, images2, symmetrized=False)
    assert encoded == [4, 8]
    assert_same(once.pointmap1, plain.pointmap1)
    assert_same(once.pointmap2, plain.pointmap2)


def test_encode_then_decode_equals_forward():
    model, (a, b) = dust3r(), pair()
    with torch.no_grad():
        whole = model(a, b)
        parts = model.decode(model.encode(a), model.encode(b))
    assert_same(whole.pointmap2, parts.pointmap2)


def test_views_of_different_size():
    output = dust3r()(torch.randn(1, 3, 32, 48), torch.randn(1, 3, 64, 16))
    assert output.pointmap1.shape == (1, 32, 48, 3) and output.pointmap2.shape == (1, 64, 16, 3)
    with pytest.raises(ValueError, match="batch size 2 and view 2 1"):
        dust3r()(torch.zeros(2, 3, 32, 32), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "single"}, "needs a decoder of two views, such as 'pair'"),
        ({"head": "pixels"}, "needs a head that predicts points"),
        ({"level_widths": (32, 24)}, "level_widths is .*the decoder has"),
        ({"patch_size": 8}, "patch_size is 8, but the encoder has 16"),
        ({"head": "dpt", "levels": (0, 1, 2, 9)}, "from 0 .* to 4"),
    ],
)
def test_refuses_components_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        dust3r(**options)


def test_dpt_refuses_a_shallow_decoder():
    config = Dust3rConfig(
        encoder_config=part(ENCODERS, "ENCODERS", "croco"),
        decoder_config=part(DECODERS, "DECODERS", "pair", num_hidden_layers=2),
        head_config=part(HEADS, "HEADS", "dpt"),
    )
    with pytest.raises(ValueError, match="a decoder of 2 blocks .* use at least 3 blocks"):
        Dust3rForStereo(config)


def test_freezing():
    def frozen(model):
        return {key for key, weight in model.named_parameters() if not weight.requires_grad}

    model = croco()
    model.freeze("mask")
    assert frozen(model) == {"decoder.mask_token"}
    model.freeze("encoder")
    encoder = {key for key, _ in model.named_parameters() if key.startswith("encoder.")}
    assert frozen(model) == encoder | {"decoder.mask_token"}
    model.freeze("none")
    assert frozen(model) == set()
    stereo = dust3r()
    stereo.freeze("decoder.blocks1", "head2")
    assert frozen(stereo) == {
        key
        for key, _ in stereo.named_parameters()
        if key.startswith(("decoder.blocks1.", "head2."))
    }
    with pytest.raises(ValueError, match="Cannot freeze 'hedd'.*head1"):
        stereo.freeze("hedd")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementations_agree(implementation, tmp_path):
    model = dust3r(head="dpt")
    model.save_pretrained(tmp_path)
    other = Dust3rForStereo.from_pretrained(tmp_path, attn_implementation=implementation)
    assert other.encoder.blocks[0].attention.config._attn_implementation == implementation
    with torch.no_grad():
        a, b = model(*pair()), other.eval()(*pair())
    assert_same(a.pointmap1, b.pointmap1)


def backward(model: torch.nn.Module, autocast: bool) -> tuple[list, Counter]:
    """Returns all gradients, and how often each layer was computed."""
    calls = Counter()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(*pair())
    (output.loss if "loss" in output else output.pointmap2.square().sum()).backward()
    return [weight.grad for weight in model.parameters() if weight.grad is not None], calls


@pytest.mark.parametrize("build", [dust3r, croco])
@pytest.mark.parametrize("autocast", [False, True])
def test_training_computes_cheap_layers_again_and_has_equal_gradients(build, autocast):
    expected, once = backward(build(), autocast)
    found, calls = backward(build().train(), autocast)
    again = {name.rpartition(".")[2] for name in calls - once}
    assert again == {"act", "norm1", "norm2", "norm3", "norm_memory"}
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = dust3r().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(*pair()).pointmap2.sum().backward()
        gradients.append(model.encoder.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_dtype_and_device_map(tmp_path, device_map):
    dust3r(head="dpt").save_pretrained(tmp_path)
    model = Dust3rForStereo.from_pretrained(tmp_path, dtype="bfloat16", device_map=device_map)
    assert model.encoder.norm.weight.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.head1.parameters()} == {torch.float32}
    with torch.no_grad():
        assert model(*pair()).pointmap1.dtype == torch.float32


def test_only_heads_stay_in_float32(tmp_path):
    dust3r(head="linear").save_pretrained(tmp_path)
    model = Dust3rForStereo.from_pretrained(tmp_path, dtype="bfloat16")
    precise = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    heads = {name for name, _ in model.named_parameters() if name.startswith(("head1", "head2"))}
    assert precise == heads


class TestCroco:
    def test_draws_a_mask_of_the_ratio(self):
        output = croco(mask_ratio=0.5)(*pair())
        assert output.mask.sum(dim=1).tolist() == [3, 3]
        assert output.prediction.shape == output.target.shape == (2, 6, 768)

    def test_hidden_pixels_do_not_reach_the_prediction(self):
        model, (a, b) = croco(), pair()
        mask = torch.tensor([[True, True, False, True, True, True]] * 2)
        changed = a.clone()
        changed[..., :16, :32] = 7
        with torch.no_grad():
            assert torch.equal(model(a, b, mask).prediction, model(changed, b, mask).prediction)
            assert not torch.equal(model(a, b, mask).prediction, model(a, -b, mask).prediction)

    def test_starts_a_stereo_model(self, tmp_path, caplog):
        source = croco()
        source.save_pretrained(tmp_path)
        for decoder in ("pair", "shared_pair"):
            model = Dust3rForStereo.from_croco(tmp_path, decoder=decoder)
            assert "head1 and head2 (LinearHead" in caplog.text
            stacks = ["blocks1", "blocks2"] if decoder == "pair" else ["blocks"]
            for stack in stacks:
                for key, value in getattr(model.decoder, stack).state_dict().items():
                    assert torch.equal(value, source.decoder.blocks.state_dict()[key])
            image = pair()[0]
            with torch.no_grad():
                torch.testing.assert_close(
                    model.eval().encode(image).last_hidden_state,
                    source.encoder(image).last_hidden_state,
                )
