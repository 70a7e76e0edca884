import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_toys
from safetensors.torch import load_file

from croco3d.training import TrainConfig, options, train

CONFIG = Path(__file__).parents[2] / "configs" / "accelerate" / "fsdp2.yaml"
SCRIPT = Path(__file__).with_name("run_sharded.py")


def sharded(path, *overrides):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    command = [*launch, "--num_processes", "2", str(SCRIPT), str(path), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_sharded_run_is_that_of_one_process_and_goes_on_exactly(tmp_path):
    # One process sees in a batch of two what two see in one each.
    config = training_toys.tiny_run(
        tmp_path / "sharded",
        steps=4,
        ema=0.5,
        task={"name": "stereo", "terms": [{"name": "pointmap"}]},
        data={"batch_size": 1, "validation": [{"reader": "toy"}]},
        runtime={"cpu": False, "threads": 1},
    )
    path = tmp_path / "run.yaml"
    path.write_text(options.to_yaml(config))
    sharded(path)
    whole = load_file(tmp_path / "sharded" / "last" / "model.safetensors")
    config = {**config, "output": str(tmp_path / "alone")}
    config["data"] = {**config["data"], "batch_size": 2}
    config["runtime"] = {"cpu": True, "threads": 1}
    train(options.parse(TrainConfig, config))
    alone = load_file(tmp_path / "alone" / "last" / "model.safetensors")
    assert whole.keys() == alone.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4, msg=name)
    # As if killed after the second step.
    shutil.rmtree(tmp_path / "sharded" / "checkpoints" / "step-00000004")
    shutil.rmtree(tmp_path / "sharded" / "last")
    sharded(path)
    again = load_file(tmp_path / "sharded" / "last" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_processes_that_would_each_run_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = training_toys.tiny_run(tmp_path, runtime={"cpu": False})
    with pytest.raises(ValueError, match="2 processes were started.*runtime.cpu=true"):
        train(options.parse(TrainConfig, config))
