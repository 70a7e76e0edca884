"""Every registered component alone: built, run, trained, saved, loaded, compiled."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from croco3d.modeling import DECODERS, ENCODERS, HEADS
from croco3d.modeling.components import Encoder, Head
from croco3d.modeling.dust3r import Dust3rConfig  # registers everything
from croco3d.modeling.registry import Registry

sys.path.insert(0, str(Path(__file__).parent))
import tiny  # noqa: E402

assert Dust3rConfig
WIDTHS = (32, 24, 24, 24, 24)


def build(registry: Registry, name: str):
    torch.manual_seed(0)
    options = getattr(tiny, f"{registry.kind.upper()}S")[name]
    facts = {}
    if registry is DECODERS:
        facts = {"in_channels": 32, "patch_size": 16}
    elif name == "pixels":
        facts = {"in_channels": 24, "patch_size": 16}
    elif registry is HEADS:
        facts = {"level_widths": WIDTHS, "patch_size": 16}
    return registry.build(registry.config_class(name)(**options), **facts)


def inputs(registry: Registry, name: str) -> tuple:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    positions = torch.cartesian_prod(torch.arange(3), torch.arange(2)).expand(2, -1, -1)
    if registry is ENCODERS:
        return (draw(2, 3, 48, 32),)
    if name == "single":
        mask = torch.tensor([[True, False, True, False, False, True]] * 2)
        return draw(2, 3, 32), mask, positions, draw(2, 6, 32), positions
    if registry is DECODERS:
        return draw(2, 6, 32), positions, draw(2, 6, 32), positions
    if name == "pixels":
        return (draw(2, 6, 24),)
    levels = [draw(2, 6, width) for width in WIDTHS]
    return [levels[index] for index in build(HEADS, name).level_indices], (3, 2)


def tensors(output) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    flat = []
    for value in output.to_tuple():
        parts = value if isinstance(value, tuple) else (value,)
        flat += [part for part in parts if isinstance(part, torch.Tensor)]
    return flat


CASES = [
    pytest.param(registry, name, id=f"{registry.kind}-{name}")
    for registry in (ENCODERS, DECODERS, HEADS)
    for name in registry
]


@pytest.mark.parametrize(("registry", "name"), CASES)
class TestContract:
    def test_has_a_tiny_config(self, registry, name):
        assert name in getattr(tiny, f"{registry.kind.upper()}S")

    def test_is_finite_and_trains_every_weight(self, registry, name):
        module = build(registry, name)
        outputs = tensors(module(*inputs(registry, name)))
        assert all(torch.isfinite(tensor).all() for tensor in outputs)
        sum(t.float().square().sum() for t in outputs if t.is_floating_point()).backward()
        idle = [
            key
            for key, weight in module.named_parameters()
            if weight.requires_grad and (weight.grad is None or not weight.grad.abs().sum() > 0)
        ]
        # The bias of a key shifts all scores of a query alike, so its gradient vanishes.
        assert [key for key in idle if "cls_token" not in key and "key.bias" not in key] == []

    def test_round_trip(self, registry, name, tmp_path):
        module = build(registry, name).eval()
        module.save_pretrained(tmp_path)
        again = type(module).from_pretrained(tmp_path).eval()
        auto = AutoModel.from_pretrained(tmp_path)
        assert type(auto) is type(module)
        assert type(AutoConfig.from_pretrained(tmp_path)) is type(module.config)
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]), key
        given = inputs(registry, name)
        with torch.no_grad():
            for a, b in zip(tensors(module(*given)), tensors(again(*given)), strict=True):
                torch.testing.assert_close(a, b)

    def test_compiles_without_graph_break(self, registry, name):
        if name == "single":
            pytest.skip("a mask's number of visible patches depends on its values")
        module = build(registry, name).eval()
        given = inputs(registry, name)
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        with torch.no_grad():
            for a, b in zip(tensors(module(*given)), tensors(compiled(*given)), strict=True):
                torch.testing.assert_close(a, b)

    def test_refuses_misspelled_option(self, registry, name):
        options = getattr(tiny, f"{registry.kind.upper()}S")[name]
        with pytest.raises(Exception, match="no option 'pach_size'"):
            registry.config_class(name)(**options, pach_size=16)


@pytest.mark.parametrize("name", sorted(ENCODERS))
class TestEncoders:
    def test_shapes_positions_and_states(self, name):
        encoder = build(ENCODERS, name).eval()
        assert isinstance(encoder, Encoder)
        output = encoder(torch.randn(2, 3, 48, 32), output_hidden_states=True)
        assert output.last_hidden_state.shape == (2, 6, encoder.hidden_size)
        assert output.positions[0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
        assert len(output.hidden_states) >= 2

    def test_transposed_storage_equals_upright(self, name):
        encoder = build(ENCODERS, name).eval()
        portrait, landscape = torch.randn(1, 3, 48, 32), torch.randn(1, 3, 32, 48)
        batch = torch.cat((portrait.transpose(2, 3), landscape))
        shapes = torch.tensor([[48, 32], [32, 48]])
        with torch.no_grad():
            mixed = encoder(batch, shapes)
            for index, image in enumerate((portrait, landscape)):
                alone = encoder(image)
                torch.testing.assert_close(
                    mixed.last_hidden_state[index], alone.last_hidden_state[0]
                )
                assert torch.equal(mixed.positions[index], alone.positions[0])

    def test_hidden_pixels_cannot_be_seen(self, name):
        encoder = build(ENCODERS, name).eval()
        image = torch.randn(1, 3, 32, 32)
        mask = torch.tensor([[True, False, False, True]])
        changed = image.clone()
        changed[..., :16, :16] += 5
        changed[..., 16:, 16:] -= 5
        with torch.no_grad():
            a, b = encoder(image, mask=mask), encoder(changed, mask=mask)
        assert a.last_hidden_state.shape[1] == 2
        assert torch.equal(a.last_hidden_state, b.last_hidden_state)
        assert a.positions[0].tolist() == [[0, 1], [1, 0]]

    @pytest.mark.parametrize(
        ("shape", "options", "message"),
        [
            ((1, 3, 40, 32), {}, "40x32 pixels cannot be cut into 16x16"),
            ((1, 1, 32, 32), {}, r"must be \(B, 3, H, W\)"),
            ((1, 3, 32, 48), {"true_shape": torch.tensor([[48, 48]])}, "48x48.*32x48"),
            ((2, 3, 32, 32), {"true_shape": torch.tensor([[32, 32]])}, r"must be \(2, 2\)"),
            ((1, 3, 32, 32), {"mask": torch.zeros(1, 3)}, r"mask must be \(1, 4\)"),
            (
                (2, 3, 32, 32),
                {"mask": torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])},
                r"same number of patches in each image, not \[3, 2\]",
            ),
        ],
    )
    def test_refuses_sizes_that_do_not_fit(self, name, shape, options, message):
        with pytest.raises(ValueError, match=message):
            build(ENCODERS, name)(torch.zeros(shape), **options)


@pytest.mark.parametrize("model_name", ["convnext_atto", "vit_tiny_patch16_dinov3", "resnet10t"])
def test_timm_backbones_of_other_kinds(model_name):
    known = {"convnext_atto": 32, "resnet10t": 32}
    name = (
        model_name if model_name != "vit_tiny_patch16_dinov3" else "vit_small_patch14_reg4_dinov2"
    )
    options = {} if name in known else {"image_size": 56}
    config = ENCODERS.config_class("timm")(model_name=name, **options)
    encoder = ENCODERS.build(config).eval()
    patch = known.get(name, 14)
    assert isinstance(encoder, Encoder) and encoder.patch_size == patch
    with torch.no_grad():
        output = encoder(torch.randn(1, 3, 2 * patch, 3 * patch))
    assert output.last_hidden_state.shape == (1, 6, encoder.hidden_size)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "pixels"])
def test_heads_stay_in_float32(name, tmp_path):
    head = build(HEADS, name)
    assert isinstance(head, Head)
    levels, grid = inputs(HEADS, name)
    head.save_pretrained(tmp_path)
    for module in (head.to(torch.bfloat16), type(head).from_pretrained(tmp_path, dtype="bfloat16")):
        assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        output = head([level.bfloat16() for level in levels], grid)
    assert output.pointmap.dtype == torch.float32


def test_unknown_and_duplicate_names():
    with pytest.raises(ValueError, match="Unknown head 'liner'. Did you mean 'linear'"):
        HEADS.config_class("liner")
    with pytest.raises(ValueError, match="already registered by LinearHead"):
        HEADS.register("linear")(HEADS.model_class("linear"))
