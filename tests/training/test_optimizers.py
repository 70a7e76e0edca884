import pytest
import torch
from torch import nn
from training_toys import tiny_model

from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.training.config import OptimizerOptions
from croco3d.training.optimizers import (
    MasterWeightAdamW,
    MovingAverage,
    learning_rate,
    make_optimizer,
    orthogonalized,
    parameter_groups,
    set_learning_rate,
)


def groups_by_name(model, **arguments):
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05, **arguments), 1.0)
    set_learning_rate(optimizer, 2.0)
    return {
        names[id(p)]: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_layer_decay_changes_the_rates_that_are_used():
    config = tiny_model()
    config["encoder_config"]["absolute_positions"] = "learned"
    model = Dust3rForStereo(Dust3rConfig(**config))
    found = groups_by_name(model, layer_decay=0.5)
    assert set(found) == {name for name, _ in model.named_parameters()}
    # Two encoder blocks: the patch embedding is layer 0 of 3, what follows the encoder layer 3.
    for name, (_, rate) in found.items():
        if name.startswith(("encoder.patch_embed", "encoder.absolute")):
            assert rate == 2.0 / 8, name
        elif name.startswith("encoder.blocks.0."):
            assert rate == 2.0 / 4, name
        elif name.startswith("encoder.blocks.1."):
            assert rate == 2.0 / 2, name
        else:
            assert rate == 2.0, name


def test_norms_biases_and_tokens_are_not_decayed():
    config = tiny_model()
    config["encoder_config"]["absolute_positions"] = "learned"
    found = groups_by_name(Dust3rForStereo(Dust3rConfig(**config)))
    decayed = {name for name, (decay, _) in found.items() if decay}
    assert decayed == {name for name in found if name.endswith("weight") and "norm" not in name}
    assert "encoder.absolute.table" in found


def test_nothing_to_train_is_refused():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        parameter_groups(model, 0.05)


def test_rate_rises_linearly_then_falls_as_a_cosine():
    options = OptimizerOptions(learning_rate=1.0, least=0.1, warmup=0.1)
    rates = [learning_rate(step, 100, options) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def train_both(first, second, optimizer1, optimizer2, steps=5):
    for step in range(steps):
        for model, optimizer in ((first, optimizer1), (second, optimizer2)):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(8, 4, generator=generator).to(model.weight.dtype)
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()


def test_masters_of_float32_weights_give_adamw():
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.load_state_dict(first.state_dict())
    plain = torch.optim.AdamW(first.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.05)
    masters = MasterWeightAdamW(second.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.05)
    train_both(first, second, plain, masters)
    # Kernels differ in the last bits.
    torch.testing.assert_close(first.weight, second.weight, rtol=1e-6, atol=1e-7)


def test_masters_keep_updates_that_bfloat16_would_lose():
    model = nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    nn.init.ones_(model.weight)
    optimizer = MasterWeightAdamW(model.parameters(), 1e-4, weight_decay=0.0)
    for _ in range(100):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    # Each step moves by 1e-4, far below bfloat16's spacing of 0.004 under one.
    expected = torch.full((4, 4), 0.99)
    torch.testing.assert_close(optimizer.masters()[model.weight], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.weight.float(), expected, atol=2e-3, rtol=0)


def test_masters_survive_saving_in_float32():
    torch.manual_seed(0)
    model = nn.Linear(4, 4).to(torch.bfloat16)
    optimizer = MasterWeightAdamW(model.parameters(), 1e-2)
    twin = nn.Linear(4, 4).to(torch.bfloat16)
    twin_optimizer = MasterWeightAdamW(twin.parameters(), 1e-2)
    train_both(model, model, optimizer, optimizer, steps=3)
    twin.load_state_dict(model.state_dict())
    twin_optimizer.load_state_dict(optimizer.state_dict())
    train_both(model, twin, optimizer, twin_optimizer, steps=3)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert torch.equal(optimizer.masters()[mine], twin_optimizer.masters()[other])
        assert optimizer.state[mine]["exp_avg_sq"].dtype == torch.float32


def test_orthogonalized_keeps_directions_and_evens_out_sizes():
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 24, 96), (2, 96, 24), (1, 32, 32)):
        left, _, right = torch.linalg.svd(
            torch.randn(shape, generator=generator), full_matrices=False
        )
        # The iteration is made for gradients, whose spectra span a few powers of ten.
        sizes = torch.logspace(0, -2, left.shape[-1])
        found = orthogonalized((left * sizes) @ right)
        along = (left.mT @ found @ right.mT).diagonal(dim1=-2, dim2=-1)
        assert along.min() > 0.6 and along.max() < 1.25, (along.min(), along.max())
        across = found - (left * along[..., None, :]) @ right
        assert across.abs().max() < 0.03
    assert not orthogonalized(torch.zeros(1, 4, 8)).any()


def muon_step(dtype=torch.float32):
    torch.manual_seed(0)
    model = Dust3rForStereo(Dust3rConfig(**tiny_model())).to(dtype)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    options = OptimizerOptions(name="muon", weight_decay=0.0)
    precision = "no" if dtype == torch.float32 else "bf16_weights"
    optimizer = make_optimizer(model, options, precision)
    set_learning_rate(optimizer, 1e-2)
    return model, before, optimizer


def test_muon_moves_all_directions_of_matrices_of_blocks_alike_and_the_rest_as_adamw():
    model, before, optimizer = muon_step()
    twin = Dust3rForStereo(Dust3rConfig(**tiny_model()))
    twin.load_state_dict(model.state_dict())
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        other.grad = mine.grad.clone()
    torch.optim.AdamW(twin.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.0).step()
    optimizer.step()
    kinds = set()
    expected = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and ".blocks" in name
        kinds.add(matrix)
        if not matrix:
            torch.testing.assert_close(parameter, expected[name], rtol=1e-5, atol=1e-7)
            continue
        moved = (parameter - before[name]).detach()
        for part in moved.chunk(3 if ".qkv." in name else 1):
            sizes = torch.linalg.svdvals(part) / (1e-2 * 0.2 * max(part.shape) ** 0.5)
            assert sizes.max() < 1.25, name
            # A random square matrix has directions near zero that five steps do not bring up.
            assert sizes.median() > 0.6, name
    assert kinds == {True, False}


def test_muon_keeps_masters_and_survives_saving():
    model, _, optimizer = muon_step(torch.bfloat16)
    twin, _, twin_optimizer = muon_step(torch.bfloat16)
    optimizer.step()
    twin.load_state_dict(model.state_dict())
    twin_optimizer.load_state_dict(optimizer.state_dict())
    for step in range(3):
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.manual_seed(step)
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimizer.step()
        twin_optimizer.step()
    masters, twin_masters = optimizer.masters(), twin_optimizer.masters()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
        # Heads stay in float32 and are their own masters.
        assert (mine in masters) == (mine.dtype == torch.bfloat16)
        if mine in masters:
            assert masters[mine].dtype == torch.float32
            assert torch.equal(masters[mine], twin_masters[other])


def test_average_follows_its_formula_and_can_be_applied():
    weight = nn.Parameter(torch.zeros(3))
    average = MovingAverage([weight], decay=0.9)
    expected = torch.zeros(3)
    for update in range(40):
        with torch.no_grad():
            weight += 1
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(average.averages[0], expected)
    with average.applied():
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight.detach(), torch.full((3,), 40.0))
