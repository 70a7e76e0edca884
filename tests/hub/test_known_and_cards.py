"""The table of published weights against their architectures, and model cards."""

import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from croco3d import AutoCroco3D
from croco3d.cli.program import build_app
from croco3d.hub import TrainingFacts
from croco3d.hub.cards import model_card
from croco3d.hub.known import KNOWN
from croco3d.hub.original_configs import croco_from_original, stereo_from_original

sys.path.insert(0, str(Path(__file__).parent))
from hub_session import Workplace  # noqa: E402

# Sizes as in the papers: CroCo v2 (arXiv 2211.10408, section 3.3), DUSt3R (2312.14132, section 4).
_LARGE = {"enc_embed_dim": 1024, "enc_depth": 24, "enc_num_heads": 16}
_BASE_DECODER = {"dec_embed_dim": 768, "dec_depth": 12, "dec_num_heads": 12}
_ROTARY = {"pos_embed": "RoPE100"}
_STEREO = {**_LARGE, **_BASE_DECODER, **_ROTARY}
ARCHITECTURES = {
    "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear": {**_STEREO, "head_type": "linear"},
    "naver/DUSt3R_ViTLarge_BaseDecoder_512_linear": {**_STEREO, "head_type": "linear"},
    "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt": {**_STEREO, "head_type": "dpt"},
    "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric": {
        **_STEREO,
        "head_type": "catmlp+dpt",
        "output_mode": "pts3d+desc24",
        "two_confs": True,
    },
    "CroCo.pth": {},
    "CroCo_V2_ViTBase_SmallDecoder.pth": _ROTARY,
    "CroCo_V2_ViTBase_BaseDecoder.pth": {**_BASE_DECODER, **_ROTARY},
    "CroCo_V2_ViTLarge_BaseDecoder.pth": _STEREO,
}


def test_every_known_checkpoint_has_its_architecture_here():
    assert set(ARCHITECTURES) == {weights.name for weights in KNOWN}


@pytest.mark.parametrize("weights", KNOWN, ids=lambda weights: weights.name)
def test_stated_sizes_are_those_of_the_architecture(weights):
    build = croco_from_original if weights.name.endswith(".pth") else stereo_from_original
    with torch.device("meta"):
        model = AutoCroco3D.from_config(build(ARCHITECTURES[weights.name]))
    assert type(model).__name__ == weights.model
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.parameters
    assert weights.size == 4 * weights.parameters


def test_list_of_known_weights():
    ran = CliRunner().invoke(build_app(), ["info", "--list"])
    assert ran.exit_code == 0, ran.output
    lines = ran.output.splitlines()
    assert len(lines) == 1 + len(KNOWN)
    for weights, line in zip(KNOWN, lines[1:], strict=True):
        assert line.startswith(weights.name) and weights.license in line
        assert f"{weights.parameters / 1e6:.1f} M" in line


@pytest.fixture(scope="module")
def model():
    return Workplace(Path(), None, "").make_model()


def test_card_tells_of_the_run(model):
    facts = TrainingFacts(
        data=["rooms", "halls"], recipe={"steps": 300}, figures={"pointmap error": 0.125}
    )
    text = model_card(model, "org/name", facts, ["indoor"])
    card = ModelCard(text)
    assert card.data.tags[0] == "croco3d" and "indoor" in card.data.tags
    assert card.data.pipeline_tag == "image-to-3d"
    assert "Data: rooms, halls." in text and "- steps: 300" in text
    assert "| pointmap error | 0.125 |" in text
    total = sum(parameter.numel() for parameter in model.parameters())
    assert f"| in all | Dust3rForStereo | {total / 1e6:.2f} M |" in text


def test_card_code_runs_in_five_lines(model):
    text = model_card(model, "org/name")
    code = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    compile(code, "card", "exec")
    assert "Not described by whoever uploaded" in text


@pytest.mark.parametrize(
    ("license_name", "restricted"),
    [("cc-by-nc-sa-4.0", True), ("apache-2.0", False), (None, False)],
)
def test_restriction_comes_first(model, license_name, restricted):
    model.config.license = license_name
    card = ModelCard(model_card(model, "org/name"))
    opening = "\n".join(card.text.strip().splitlines()[:3])
    assert ("Not for commercial use" in opening) == restricted
    assert card.data.license == license_name
    assert ("not stated" in card.text) == (license_name is None)
