"""What is refused, and how."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from croco3d import AutoCroco3D, CrocoForPreTraining, Dust3rForStereo
from croco3d.hub.loading import _warn_license
from croco3d.hub.original_configs import parse_constructor

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import synth  # noqa: E402


@pytest.fixture(scope="module")
def case() -> dict:
    return synth.load_case(GOLDEN / "dust3r_linear")


@pytest.fixture
def published(case, tmp_path) -> Path:
    return synth.write_hub(case, tmp_path / "published")


def test_missing_weight_is_named(published):
    file = published / "model.safetensors"
    weights = load_file(file)
    del weights["enc_norm.bias"]
    save_file(weights, file)
    with pytest.raises(ValueError, match="missing encoder.norm.bias"):
        Dust3rForStereo.from_pretrained(published)


def test_unexpected_weight_is_named(published):
    file = published / "model.safetensors"
    weights = {**load_file(file), "enc_blocks.7.norm1.weight": torch.ones(128)}
    save_file(weights, file)
    with pytest.raises(ValueError, match="unexpected encoder.blocks.7.norm1.weight"):
        Dust3rForStereo.from_pretrained(published)


@pytest.mark.parametrize("layout", ["original", "ours"])
def test_truncated_safetensors(published, tmp_path, layout):
    folder = published
    if layout == "ours":
        folder = tmp_path / "ours"
        Dust3rForStereo.from_pretrained(published).save_pretrained(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        Dust3rForStereo.from_pretrained(folder)


def test_truncated_pth(case, tmp_path):
    file = synth.write_pth(case, tmp_path / "model.pth")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="model.pth' is damaged"):
        Dust3rForStereo.from_pretrained(file)


class Malice:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def test_pth_with_code_is_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "args": Malice()}, "evil.pth")
    with pytest.raises(ValueError, match=r"evil.pth' holds code .*system"):
        AutoCroco3D.from_pretrained("evil.pth")
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    "text",
    [
        "AsymmetricCroCo3DStereo(enc_depth=__import__('os').getpid())",
        "AsymmetricCroCo3DStereo(12)",
        "print('x')",
        "AsymmetricCroCo3DStereo(",
        "(lambda: 0)()",
    ],
)
def test_constructor_text_is_never_run(text):
    with pytest.raises(ValueError, match="Cannot read the model's constructor"):
        parse_constructor(text)


def test_constructor_text_is_read():
    text = (
        "AsymmetricCroCo3DStereo(depth_mode=('exp', -inf, inf), enc_depth=24, img_size=(512, 512))"
    )
    assert parse_constructor(text) == {
        "depth_mode": ("exp", float("-inf"), float("inf")),
        "enc_depth": 24,
        "img_size": (512, 512),
    }


def test_unknown_option_of_a_published_config(published):
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps({**config, "enc_dept": 3}))
    with pytest.raises(ValueError, match="unknown options enc_dept"):
        Dust3rForStereo.from_pretrained(published)


def test_misspelled_key_in_our_config(published, tmp_path):
    Dust3rForStereo.from_pretrained(published).save_pretrained(tmp_path / "ours")
    file = tmp_path / "ours" / "config.json"
    config = json.loads(file.read_text())
    config["decoder_config"]["num_hiden_layers"] = 3
    file.write_text(json.dumps(config))
    with pytest.raises(Exception, match="no option 'num_hiden_layers'. Did you mean 'num_hidden"):
        Dust3rForStereo.from_pretrained(tmp_path / "ours")


def test_model_of_another_kind(published, tmp_path):
    with pytest.raises(ValueError, match="croco3d_dust3r.*not what CrocoForPreTraining loads"):
        CrocoForPreTraining.from_pretrained(published)
    file = synth.write_pth(synth.load_case(GOLDEN / "croco_v2"), tmp_path / "croco.pth")
    with pytest.raises(ValueError, match="from_croco"):
        Dust3rForStereo.from_pretrained(file)


@pytest.mark.parametrize("name", ["nowhere/missing", "missing.pth", "empty"])
def test_missing_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    messages = {
        "nowhere/missing": "HF_HUB_OFFLINE is set.*hf download nowhere/missing",
        "missing.pth": "no checkpoint file 'missing.pth'",
        "empty": "folder 'empty' holds no config.json",
    }
    with pytest.raises(OSError, match=messages[name]):
        AutoCroco3D.from_pretrained(name)


def test_restrictive_licence_is_shown_once_and_kept(case, tmp_path, caplog):
    _warn_license.cache_clear()
    path = synth.write_hub(case, tmp_path / "DUSt3R_ViTLarge_BaseDecoder_512_dpt")
    model = Dust3rForStereo.from_pretrained(path)
    Dust3rForStereo.from_pretrained(path)
    assert caplog.text.count("cc-by-nc-sa-4.0: not for commercial use") == 1
    model.save_pretrained(tmp_path / "mine")
    again = Dust3rForStereo.from_pretrained(tmp_path / "mine")
    assert again.config.license == "cc-by-nc-sa-4.0"
    assert caplog.text.count("not for commercial use") == 2
