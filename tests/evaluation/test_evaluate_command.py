import json

import cv2
import numpy as np
import pytest
import torch
import typer
from corner_room import CAMERA, HEIGHT, WIDTH, make_pose, render
from typer.testing import CliRunner

from croco3d.cli.evaluate import read_specs, register
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Three frames in nerfstudio's layout."""
    folder = tmp_path_factory.mktemp("capture")
    opengl = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    frames = []
    for number in range(3):
        camera = make_pose([0, -4.0 * number, 0], [0.2 * number, 0.0, 0.0])
        image, depth = render(camera)
        cv2.imwrite(str(folder / f"{number}.png"), image.numpy())
        cv2.imwrite(str(folder / f"{number}_depth.png"), (1000 * depth.numpy()).astype(np.uint16))
        frames.append(
            {
                "file_path": f"{number}.png",
                "depth_file_path": f"{number}_depth.png",
                "transform_matrix": (camera @ opengl).tolist(),
            }
        )
    meta = {
        "camera_model": "PINHOLE",
        "fl_x": CAMERA[0, 0].item(),
        "fl_y": CAMERA[1, 1].item(),
        "cx": CAMERA[0, 2].item() + 0.5,
        "cy": CAMERA[1, 2].item() + 0.5,
        "w": WIDTH,
        "h": HEIGHT,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "best"
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", **sizes},
        decoder_config={"model_type": "croco3d_pair_decoder", **sizes},
        head_config={"model_type": "croco3d_linear_head"},
        image_size=64,
    )
    Dust3rForStereo(config).save_pretrained(folder)
    return folder


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_command_measures_a_saved_model_on_a_capture(capture, model, tmp_path):
    out = tmp_path / "report"
    result = run(model, capture, "-o", out, "--resolution", "128x96", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "report.json").read_text())["summary"]
    untrained, classical = summary["tiny/best"], summary["SIFT + essential matrix"]
    assert {"pointmap", "rra_5", "focal", "f_score"} <= untrained.keys()
    assert untrained["coverage"] == 1.0
    assert classical["rotation_median"] < 2.0
    assert (out / "worst_1.png").is_file()


def test_command_prints_a_table_without_a_model(capture):
    result = run("none", capture, "--resolution", "64", "--baseline", "identity_pose", "--limit", 1)
    assert result.exit_code == 0, result.output
    assert "| Relative rotation within 15 degrees (RRA@15) | 100.0 % |" in result.stdout
    assert "1 pairs" in result.stdout


def test_specs_come_from_folders_lists_and_training_configurations(capture, tmp_path):
    assert read_specs(capture, None, ["max_degrees=5"]) == [
        {"reader": "nerfstudio", "root": str(capture), "max_degrees": 5}
    ]
    entry = {"reader": "co3d", "root": "x"}
    file = tmp_path / "data.yaml"
    for content in (entry, [entry], {"data": {"train": [{}], "validation": [entry]}}):
        file.write_text(json.dumps(content))
        assert read_specs(file, None, []) == [entry]
    file.write_text("[1]")
    with pytest.raises(ValueError, match="reader"):
        read_specs(file, None, [])
    with pytest.raises(ValueError, match="--reader"):
        read_specs(tmp_path, None, [])


def test_command_refuses_nonsense(capture):
    assert run("none", capture, "--resolution", "12y").exit_code == 2
    assert run("none", capture, "--dtype", "int8").exit_code == 2
    assert run("none", capture, "--option", "max_degrees").exit_code == 2
