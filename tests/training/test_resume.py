import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_toys
from PIL import Image
from safetensors.torch import load_file

from croco3d.training import TrainConfig, checkpoints, options, setup, train

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


def request(folder, processes, kills, **changes):
    """Write down a run that is to be made whole, and killed."""
    config = training_toys.tiny_run(
        folder,
        **{
            "ema": 0.9,
            "saving": {"every": 1},
            "monitoring": {"log_every": 2, "evaluate_every": 2, "pictures": 1},
            **changes,
        },
    )
    config["data"]["validation"] = [{"reader": "toy"}]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "request.json"
    path.write_text(json.dumps({"config": config, "processes": processes, "kills": kills}))
    return path


def kill_and_resume(*paths):
    """Make the runs, in one process that forks."""
    command = [sys.executable, str(SCRIPT), *map(str, paths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for path in paths:
        ends = json.loads(path.with_name("ends.json").read_text())
        assert ends[0] == ends[-1] == "finished", done.stderr[-3000:]
        assert "failed" not in ends, done.stderr[-3000:]
        assert "killed" in ends


def assert_same_run(folder):
    for part in ("last", "best"):
        name = f"{part}/model.safetensors"
        whole, killed = (load_file(folder / run / name) for run in ("whole", "killed"))
        assert whole.keys() == killed.keys()
        assert all(torch.equal(whole[key], killed[key]) for key in whole)
    lines = [
        [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    for one, other in zip(*lines, strict=True):
        one.pop("train/pairs_per_second", None)
        other.pop("train/pairs_per_second", None)
        assert one["step"] == other["step"]
        if "train/loss" not in one:
            assert one == other
    assert not list((folder / "killed").rglob("unfinished*"))


def test_killed_runs_end_with_the_same_weights_on_one_and_two_processes(tmp_path):
    one = request(
        tmp_path / "one",
        processes=1,
        kills=3,
        runtime={"precision": "bf16_weights", "accumulate": 2},
    )
    two = request(tmp_path / "two", processes=2, kills=2, steps=4, data={"batch_size": 1})
    kill_and_resume(one, two)
    assert_same_run(tmp_path / "one")
    assert_same_run(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("precision", ["no", "bf16", "bf16_weights"])
def test_many_kills(tmp_path, processes, precision):
    runtime = {"precision": precision, "accumulate": 2}
    data = {"batch_size": 1, "workers": 1}
    path = request(tmp_path / "run", processes, 10, runtime=runtime, steps=12, data=data)
    kill_and_resume(path)
    assert_same_run(tmp_path / "run")


@pytest.mark.slow
def test_the_launchers_start_two_processes(tmp_path):
    config = training_toys.tiny_run(tmp_path / "run", steps=2)
    config["data"]["train"] = [{"reader": "image_pairs", "root": str(tmp_path / "images")}]
    config["task"] = {"name": "completion"}
    config["model"] = {"name": "croco", "config": training_toys.tiny_croco()}
    config["data"]["batch_size"] = 1
    for number in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        pixels = np.full((40, 40, 3), 60 * number, dtype=np.uint8)
        for view in (1, 2):
            Image.fromarray(pixels).save(tmp_path / "images" / f"pair{number}_{view}.png")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(config))
    settings = Path(__file__).parents[2] / "configs" / "accelerate" / "cpu2.yaml"
    launch = ["accelerate.commands.launch", "--config_file", str(settings)]
    for launcher in (["torch.distributed.run", "--nproc_per_node", "2"], launch):
        command = [sys.executable, "-m", *launcher, "-m", "croco3d.training", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        folder = tmp_path / "run" / "checkpoints" / "step-00000002"
        assert len(list(folder.glob("process-*.pt"))) == 2
        shutil.rmtree(tmp_path / "run")


def test_an_unfinished_checkpoint_is_not_gone_on_from(tmp_path):
    config = options.parse(TrainConfig, training_toys.tiny_run(tmp_path, steps=4))
    train(config)
    root = tmp_path / "checkpoints"
    assert sorted(path.name for path in root.iterdir()) == ["step-00000002", "step-00000004"]
    (root / "step-00000004").rename(root / "unfinished-00000004")
    assert checkpoints.latest(root) == root / "step-00000002"
    assert setup(config).step == 2


def test_a_checkpoint_of_other_processes_is_refused(tmp_path):
    config = options.parse(TrainConfig, training_toys.tiny_run(tmp_path, steps=2))
    train(config)
    folder = tmp_path / "checkpoints" / "step-00000002"
    (folder / "process-1.pt").write_bytes((folder / "process-0.pt").read_bytes())
    with pytest.raises(ValueError, match="written by 2 processes, this run has 1"):
        setup(config)


def test_changed_options_are_reported_when_going_on(tmp_path, caplog):
    train(options.parse(TrainConfig, training_toys.tiny_run(tmp_path, steps=2)))
    changed = training_toys.tiny_run(tmp_path, steps=3, optimizer={"learning_rate": 5e-3})
    with caplog.at_level("WARNING"):
        setup(options.parse(TrainConfig, changed))
    assert "steps: 2 -> 3" in caplog.text
    assert "optimizer.learning_rate: 0.001 -> 0.005" in caplog.text
