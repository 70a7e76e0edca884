import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from croco3d.geometry import estimate_scale
from croco3d.losses import ConfidenceLoss, MaskedPixelLoss, PointmapLoss, StereoTarget

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "losses" / "expected.json").read_text())
INVARIANCES = {
    "": None,
    "_ShiftInv": "shift",
    "_ScaleInv": "scale",
    "_ScaleShiftInv": "scale_shift",
}


@pytest.fixture(scope="module")
def inputs():
    return load_file(GOLDEN / "losses" / "inputs.safetensors")


@pytest.fixture(scope="module")
def outputs(inputs):
    return SimpleNamespace(
        pointmap1=inputs["pred_pts3d_1"],
        pointmap2=inputs["pred_pts3d_2"],
        confidence1=inputs["conf_1"],
        confidence2=inputs["conf_2"],
    )


@pytest.fixture(scope="module")
def target(inputs):
    return StereoTarget(
        inputs["gt_pts3d_1"],
        inputs["gt_pts3d_2"],
        inputs["pose_1"],
        inputs["valid_1"].bool(),
        inputs["valid_2"].bool(),
    )


def build(name):
    variant = re.search(r"Regr3D(_\w+)?\(", name).group(1) or ""
    norm_mode = re.search(r"norm_mode=([\w-]+)", name)
    norm_mode = norm_mode.group(1) if norm_mode else "avg_dis"
    loss = PointmapLoss(
        norm_mode=False if norm_mode == "False" else norm_mode,
        gt_scale="gt_scale=True" in name,
        invariance=INVARIANCES[variant],
    )
    return ConfidenceLoss(loss, alpha=0.2) if name.startswith("ConfLoss") else loss


@pytest.mark.parametrize("name", [name for name in EXPECTED if "Regr3D" in name])
def test_losses_match_golden(name, outputs, target):
    result = build(name)(outputs, target)
    assert result.total.item() == pytest.approx(EXPECTED[name]["loss"], rel=1e-5)
    for key, value in EXPECTED[name]["details"].items():
        part = ("confidence" if key.startswith("conf") else "pointmap") + key[-1]
        assert result.parts[part].item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("method", ["avg", "median", "weiszfeld"])
def test_scales_match_golden(method, inputs):
    source = torch.cat([inputs[f"gt_pts3d_{view}"].flatten(1, 2) for view in (1, 2)], dim=1)
    goal = torch.cat([inputs[f"pred_pts3d_{view}"].flatten(1, 2) for view in (1, 2)], dim=1)
    mask = torch.cat([inputs[f"valid_{view}"].flatten(1).bool() for view in (1, 2)], dim=1)
    scale = estimate_scale(source, goal, mask, method=method)
    torch.testing.assert_close(scale, torch.tensor(EXPECTED[f"scale:{method}"]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", ["croco_v1", "croco_v2"])
@pytest.mark.parametrize("norm_pix", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_masked_pixel_losses_match_golden(case, norm_pix, masked):
    golden = load_file(GOLDEN / case / "expected.safetensors")
    loss = MaskedPixelLoss(norm_pix=norm_pix, masked_only=masked)
    value = loss(golden["prediction"], golden["target"], golden["mask"].bool()).total.item()
    expected = golden[f"loss/norm_pix={int(norm_pix)}/masked={int(masked)}"].item()
    assert value == pytest.approx(expected, rel=1e-5)
