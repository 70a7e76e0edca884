"""The golden cases: published layouts load, and give the original architectures' numbers."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from croco3d import AutoCroco3D, AutoEncoder, CrocoForPreTraining, Dust3rForStereo
from croco3d.hub.convert import convert
from croco3d.modeling.layers import patchify, unpatchify

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import synth  # noqa: E402

STEREO = ["dust3r_linear", "dust3r_dpt", "dust3r_dpt_landscape", "mast3r"]
MAPS = {
    "pts3d": "pointmap",
    "conf": "confidence",
    "desc": "descriptors",
    "desc_conf": "descriptor_confidence",
}


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return ((value.float() - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a golden case in a layout, once."""
    folder, done = tmp_path_factory.mktemp("published"), {}

    def write(name: str, layout: str) -> tuple[dict, dict, Path]:
        if (name, layout) not in done:
            case = synth.load_case(GOLDEN / name)
            make = synth.write_pth if layout == "pth" else synth.write_hub
            path = make(case, folder / (f"{name}.pth" if layout == "pth" else name))
            done[name, layout] = case, load_file(GOLDEN / name / "expected.safetensors"), path
        return done[name, layout]

    yield write
    shutil.rmtree(folder)


def check_stereo(case: dict, expected: dict, model, tolerance: float, tokens_only=False) -> None:
    for name, run in case["runs"].items():
        shape1 = run.get("shape1", run.get("shape"))
        images = [
            synth.image(f"{name}/view{view}", shape, case["seed"])
            for view, shape in ((1, shape1), (2, run.get("shape2", shape1)))
        ]
        shapes = [torch.tensor(run[f"true{v}"]) if f"true{v}" in run else None for v in (1, 2)]
        with torch.no_grad():
            output = model(*images, *shapes, output_hidden_states=True)
        checked = 0
        for key, value in expected.items():
            run_name, what = key.split("/")
            if run_name != name:
                continue
            kind, view = what.rsplit("_", 1)
            if kind in MAPS:
                if tokens_only:
                    continue
                stride = case["subsample"]
                got = output[f"{MAPS[kind]}{view}"][:, ::stride, ::stride]
            else:
                level = {"encoder": 0, "decoder": -1}[kind]
                stride = run.get("token_stride", 1)
                got = output[f"hidden_states{view}"][level][:, ::stride, ::stride]
            assert relative_error(got, value) <= tolerance, key
            checked += 1
        assert checked


@pytest.mark.parametrize("layout", ["hub", "pth"])
@pytest.mark.parametrize("name", STEREO)
def test_stereo_equals_the_original(written, name, layout):
    case, expected, path = written(name, layout)
    model = AutoCroco3D.from_pretrained(path).eval()
    check_stereo(case, expected, model, 1e-4)


@pytest.mark.parametrize("name", ["dust3r_linear", "dust3r_dpt"])
def test_tokens_under_bfloat16_autocast(written, name):
    case, expected, path = written(name, "hub")
    with torch.autocast("cpu", torch.bfloat16):
        check_stereo(case, expected, Dust3rForStereo.from_pretrained(path).eval(), 3e-2, True)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["hub", "pth"])
def test_full_size_equals_the_original(written, layout):
    case, expected, path = written("dust3r_vitl_512_dpt", layout)
    model = Dust3rForStereo.from_pretrained(path).eval()
    check_stereo(case, expected, model, 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        check_stereo(case, expected, model, 3e-2, tokens_only=True)


@pytest.mark.parametrize("name", ["croco_v1", "croco_v2"])
def test_croco_equals_the_original(written, name):
    case, expected, path = written(name, "pth")
    model = CrocoForPreTraining.from_pretrained(path).eval()
    shape = [case["batch"], 3, case["image_size"], case["image_size"]]
    first, second = (synth.image(key, shape, case["seed"]) for key in ("img1", "img2"))
    mask = expected["mask"].bool()
    with torch.no_grad():
        masked = model.encoder(first, mask=mask).last_hidden_state
        assert relative_error(masked, expected["encoder_masked"]) <= 1e-4
        whole = model.encoder(second).last_hidden_state
        assert relative_error(whole, expected["encoder_unmasked"]) <= 1e-4
        for key, value in expected.items():
            if key.startswith("loss/"):
                model.config.norm_pix_loss = "norm_pix=1" in key
                model.config.loss_on_hidden = "masked=1" in key
                output = model(first, second, mask)
                assert output.loss.item() == pytest.approx(value.item(), rel=1e-5)
    assert relative_error(output.prediction, expected["prediction"]) <= 1e-4
    assert relative_error(output.target, expected["target"]) <= 1e-6
    assert torch.equal(unpatchify(patchify(first, 16), 16, (6, 6)), first)


def test_v1_at_another_size_warns_and_runs(written):
    _, _, path = written("croco_v1", "pth")
    model = CrocoForPreTraining.from_pretrained(path).eval()
    images = torch.randn(2, 1, 3, 64, 128)
    with pytest.warns(UserWarning, match="made for 96x96 pixels; they are resampled to 64x128"):
        assert torch.isfinite(model(*images).loss)


def test_duplicated_dpt_names_in_a_hub_file(written, tmp_path):
    case, expected, path = written("dust3r_dpt", "hub")
    weights = load_file(path / "model.safetensors")
    renamed = {
        key.replace(".layer1_rn.", ".layer_rn.0.").replace(".layer4_rn.", ".layer_rn.3."): value
        for key, value in weights.items()
    }
    assert set(renamed) != set(weights)
    shutil.copy(path / "config.json", tmp_path)
    save_file(renamed, tmp_path / "model.safetensors")
    check_stereo(case, expected, Dust3rForStereo.from_pretrained(tmp_path).eval(), 1e-4)


@pytest.mark.parametrize("layout", ["hub", "pth"])
@pytest.mark.parametrize("name", [*STEREO, "croco_v1", "croco_v2"])
def test_there_and_back_changes_nothing(written, name, layout, tmp_path):
    if name.startswith("croco") and layout == "hub":
        pytest.skip("CroCo was published as .pth only")
    case, _, path = written(name, layout)
    ours = convert(path, tmp_path / "ours")
    back = convert(ours, tmp_path / ("back.pth" if layout == "pth" else "back"), "original")
    if layout == "pth":
        with torch.serialization.safe_globals([__import__("argparse").Namespace]):
            weights = torch.load(back, weights_only=True)["model"]
    else:
        weights = load_file(back / "model.safetensors")
    published = synth.state_dict(case)
    assert set(published) <= set(weights)
    assert all(".layer_rn." in key for key in set(weights) - set(published))
    for key, value in published.items():
        assert torch.equal(value, weights[key]), key
    again = AutoCroco3D.from_pretrained(back)
    first, second = again.config.to_dict(), AutoCroco3D.from_pretrained(ours).config.to_dict()
    for config in (first, second):
        for key in ("_name_or_path", "architectures", "dtype", "landscape_only"):
            config.pop(key, None)
    assert json.dumps(first, default=str, sort_keys=True).replace("null", "") != ""
    assert first["encoder_config"]["hidden_size"] == second["encoder_config"]["hidden_size"]


@pytest.mark.parametrize("layout", ["hub", "pth"])
def test_the_encoder_alone(written, layout, tmp_path):
    case, expected, path = written("dust3r_linear", layout)
    ours = convert(path, tmp_path / "ours")
    image = synth.image("square/view1", case["runs"]["square"]["shape1"], case["seed"])
    for source in (path, ours):
        encoder = AutoEncoder.from_pretrained(source).eval()
        with torch.no_grad():
            tokens = encoder(image).last_hidden_state
        assert relative_error(tokens, expected["square/encoder_1"]) <= 1e-4
        encoder.save_pretrained(tmp_path / "alone")
        again = AutoEncoder.from_pretrained(tmp_path / "alone")
        assert torch.equal(again.norm.weight, encoder.norm.weight)
