import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import training_toys
from safetensors.torch import load_file

from croco3d.training import TrainConfig, options, train

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
SCRIPT = Path(__file__).with_name("run_deepspeed.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed"),
]


def launch(path, stage, *overrides):
    config = CONFIGS / f"deepspeed_zero{stage}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--num_processes", "2", str(SCRIPT), str(path), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def write(tmp_path, **changes):
    config = training_toys.tiny_run(
        tmp_path / "sharded",
        **{
            "steps": 4,
            "task": {"name": "stereo", "terms": [{"name": "pointmap"}]},
            "data": {"batch_size": 1, "validation": [{"reader": "toy"}]},
            "runtime": {"cpu": False, "threads": 1, "accumulate": 2},
            **changes,
        },
    )
    (tmp_path / "run.yaml").write_text(options.to_yaml(config))
    return config, tmp_path / "run.yaml"


@pytest.mark.parametrize(("stage", "ema"), [(2, 0.5), (3, None)])
def test_a_run_is_that_of_one_process_and_goes_on_exactly(tmp_path, stage, ema):
    config, path = write(tmp_path, ema=ema)
    code, log = launch(path, stage)
    assert code == 0, log[-3000:]
    # One process sees in a batch of two what two see in one each.
    config = {**config, "output": str(tmp_path / "alone")}
    config["data"] = {**config["data"], "batch_size": 2}
    config["runtime"] = {**config["runtime"], "cpu": True}
    train(options.parse(TrainConfig, config))
    for name in ("best", "last"):
        found, alone = (
            load_file(tmp_path / run / name / "model.safetensors") for run in ("sharded", "alone")
        )
        assert found.keys() == alone.keys()
        for key, value in found.items():
            torch.testing.assert_close(value, alone[key], rtol=1e-3, atol=5e-4, msg=key)
    # As if killed after the second step.
    shutil.rmtree(tmp_path / "sharded" / "checkpoints" / "step-00000004")
    (tmp_path / "sharded" / "last").rename(tmp_path / "whole")
    code, log = launch(path, stage)
    assert code == 0, log[-3000:]
    again, whole = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("sharded/last", "whole")
    )
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.parametrize("stage", [2, 3])
def test_a_broken_loss_skips_its_step_under_autocast(tmp_path, stage):
    _, path = write(
        tmp_path,
        task={"name": "stereo", "terms": [{"name": "broken"}], "symmetrize": False},
        runtime={"cpu": False, "threads": 1, "accumulate": 2, "precision": "bf16"},
    )
    code, log = launch(path, stage)
    assert code == 0, log[-3000:]
    assert list((tmp_path / "sharded" / "skipped").glob("step-*.pt"))
    weights = load_file(tmp_path / "sharded" / "last" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize(
    ("change", "reason"), [("ema=0.9", "ema=null"), ("runtime.precision=fp16", "use 'bf16'")]
)
def test_what_does_not_run_under_stage_3_is_refused(tmp_path, change, reason):
    _, path = write(tmp_path)
    code, log = launch(path, 3, change)
    assert code
    assert reason in log
