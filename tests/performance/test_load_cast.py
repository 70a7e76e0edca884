import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from croco3d import AutoCroco3D, AutoEncoder, Dust3rForStereo

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import synth  # noqa: E402


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    return synth.write_hub(synth.load_case(GOLDEN / "dust3r_dpt"), folder / "model")


def is_mapped(folder: Path) -> bool:
    return str(folder) in Path("/proc/self/maps").read_text()


def same(found: dict, expected: dict) -> bool:
    return set(found) == set(expected) and all(
        found[name].dtype == value.dtype and torch.equal(found[name], value)
        for name, value in expected.items()
    )


def check_cast(load, folder: Path) -> None:
    model = load(folder, dtype=torch.bfloat16)
    if sys.platform == "linux":
        assert not is_mapped(folder)
    expected = load(folder).to(torch.bfloat16)
    assert torch.bfloat16 in {value.dtype for value in expected.state_dict().values()}
    assert same(model.state_dict(), expected.state_dict())


def test_a_published_checkpoint_is_cast_without_mapping_it(original):
    check_cast(Dust3rForStereo.from_pretrained, Path(original))
    check_cast(AutoEncoder.from_pretrained, Path(original))


@pytest.mark.parametrize("shards", ["1GB", "100KB"])
def test_our_layout_is_cast_without_mapping_it(shards, original, tmp_path):
    Dust3rForStereo.from_pretrained(original).save_pretrained(tmp_path, max_shard_size=shards)
    assert len(list(tmp_path.glob("*.safetensors"))) > (1 if shards == "100KB" else 0)
    check_cast(AutoCroco3D.from_pretrained, tmp_path)
    check_cast(AutoEncoder.from_pretrained, tmp_path)


@pytest.mark.parametrize("name", ["dust3r_linear", "dust3r_dpt", "dust3r_dpt_landscape", "mast3r"])
def test_optimized_models_equal_the_original(name, tmp_path):
    case = synth.load_case(GOLDEN / name)
    expected = load_file(GOLDEN / name / "expected.safetensors")
    model = AutoCroco3D.from_pretrained(synth.write_hub(case, tmp_path / name))
    model.optimize_for_inference()
    for run_name, run in case["runs"].items():
        first = run.get("shape1", run.get("shape"))
        sizes = (first, run.get("shape2", first))
        images = [
            synth.image(f"{run_name}/view{view}", size, case["seed"])
            for view, size in enumerate(sizes, start=1)
        ]
        shapes = [torch.tensor(run[f"true{v}"]) if f"true{v}" in run else None for v in (1, 2)]
        with torch.inference_mode():
            output = model(*images, *shapes)
        stride = case["subsample"]
        for view in "12":
            value = expected[f"{run_name}/pts3d_{view}"]
            found = output[f"pointmap{view}"][:, ::stride, ::stride]
            assert float((found - value).norm() / value.norm()) <= 1e-4
