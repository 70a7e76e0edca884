import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_toys
from safetensors.torch import load_file

from croco3d.training import TrainConfig, checkpoints, options, setup, train

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


def kill_and_resume(folder, processes, kills, **changes):
    """Give how each attempt ended: one whole run, some killed, one that finishes."""
    config = training_toys.tiny_run(
        folder,
        ema=0.9,
        saving={"every": 1},
        monitoring={"log_every": 2, "evaluate_every": 2, "pictures": 1},
        **changes,
    )
    config["data"]["validation"] = [{"reader": "toy"}]
    path = folder / "request.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, str(SCRIPT), str(path), str(processes), str(kills)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = done.stdout.split()
    assert ends[0] == ends[-1] == "finished", done.stderr[-3000:]
    assert "failed" not in ends, done.stderr[-3000:]
    return ends


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


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    precision = {"precision": "bf16_weights", "accumulate": 2}
    ends = kill_and_resume(tmp_path, 1, kills=3, runtime=precision, steps=8)
    assert "killed" in ends
    assert_same_run(tmp_path)


def test_two_killed_processes_end_with_the_same_weights(tmp_path):
    ends = kill_and_resume(tmp_path, 2, kills=2, data={"batch_size": 1})
    assert "killed" in ends
    assert_same_run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("precision", ["no", "bf16", "bf16_weights"])
def test_many_kills(tmp_path, processes, precision):
    runtime = {"precision": precision, "accumulate": 2}
    ends = kill_and_resume(
        tmp_path, processes, kills=10, runtime=runtime, steps=12, data={"batch_size": 1}
    )
    assert ends.count("killed") >= 5
    assert_same_run(tmp_path)


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
