import pytest
import torch
import training_toys
from safetensors.torch import load_file

from croco3d.modeling.croco import CrocoConfig, CrocoForPreTraining
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.training import TrainConfig, options, train
from croco3d.training.models import CrocoOptions, Dust3rOptions, LoraOptions, copy_matching


def test_a_new_head_takes_over_all_else_and_is_said_loudly(tmp_path, caplog):
    linear, dpt = (training_toys.tiny_model(f"croco3d_{head}_head") for head in ("linear", "dpt"))
    for config in (linear, dpt):
        config["decoder_config"]["num_hidden_layers"] = 4
    dpt["head_config"] |= {"level_channels": [8, 8, 8, 8], "fusion_channels": 8}
    torch.manual_seed(1)
    first = Dust3rForStereo(Dust3rConfig(**linear))
    first.save_pretrained(tmp_path)
    with caplog.at_level("WARNING"):
        model = Dust3rOptions(config=dpt, init_from=str(tmp_path)).build()
    mine, theirs = model.state_dict(), first.state_dict()
    for name, value in mine.items():
        if not name.startswith("head"):
            assert torch.equal(value, theirs[name]), name
    assert "newly initialised: head1." in caplog.text
    assert "not used" in caplog.text
    assert "head1.proj.weight" in caplog.text


def test_both_stacks_start_as_copies_of_crocos_decoder(tmp_path, caplog):
    torch.manual_seed(2)
    croco = CrocoForPreTraining(CrocoConfig(**training_toys.tiny_croco()))
    croco.save_pretrained(tmp_path)
    with caplog.at_level("WARNING"):
        model = Dust3rOptions(config=training_toys.tiny_model(), init_from=str(tmp_path)).build()
    blocks = croco.decoder.blocks.state_dict()
    for stack in (model.decoder.blocks1, model.decoder.blocks2):
        for name, value in stack.state_dict().items():
            assert torch.equal(value, blocks[name]), name
    assert torch.equal(
        model.encoder.patch_embed.state_dict()["proj.weight"],
        croco.encoder.patch_embed.state_dict()["proj.weight"],
    )
    assert "newly initialised: head1." in caplog.text


def test_models_without_a_common_weight_are_refused():
    with pytest.raises(ValueError, match="shares no weight"):
        copy_matching(torch.nn.Linear(2, 2), torch.nn.LayerNorm(3), "it")


def test_two_sources_are_refused():
    with pytest.raises(ValueError, match="leave out config"):
        CrocoOptions(pretrained="a", init_from="b")


def test_frozen_parts_stay(tmp_path):
    config = training_toys.tiny_run(tmp_path, steps=2, model={"freeze": ["encoder"]})
    run = train(options.parse(TrainConfig, config))
    torch.manual_seed(config["seed"])
    fresh = Dust3rForStereo(Dust3rConfig(**training_toys.tiny_model())).state_dict()
    trained = run.model.state_dict()
    same = {name for name in fresh if torch.equal(fresh[name], trained[name])}
    assert same == {name for name in fresh if name.startswith("encoder.")}


def test_adapters_train_alone_and_are_merged_when_saved(tmp_path):
    lora = {"modules": ["qkv"], "rank": 2, "train_also": ["head1", "head2"]}
    config = training_toys.tiny_run(tmp_path, steps=2, model={"lora": lora})
    run = train(options.parse(TrainConfig, config))
    torch.manual_seed(config["seed"])
    fresh = Dust3rForStereo(Dust3rConfig(**training_toys.tiny_model())).state_dict()
    saved = load_file(tmp_path / "last" / "model.safetensors")
    assert saved.keys() == fresh.keys()
    changed = {name for name in fresh if not torch.equal(fresh[name], saved[name])}
    assert changed == {n for n in fresh if "qkv.weight" in n or n.startswith("head")}
    batch = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = Dust3rForStereo.from_pretrained(tmp_path / "last").eval()
    with torch.no_grad():
        merged = model(*batch).pointmap1
        adapted = run.model.eval()(*batch).pointmap1
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)


def test_lora_names_what_it_adapts():
    model = Dust3rOptions(
        config=training_toys.tiny_model(), lora=LoraOptions(modules=["query", "key"])
    ).build()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and (".query." in name or ".key." in name) for name in trained)
