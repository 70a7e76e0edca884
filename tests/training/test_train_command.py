import logging
import re

import pytest
import training_toys
import typer
from typer.testing import CliRunner

from croco3d.cli.train import register
from croco3d.training.options import to_yaml


@pytest.fixture
def program():
    app = typer.Typer()
    register(app)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def write(path, **changes):
    path.write_text(to_yaml(training_toys.tiny_run(path.with_suffix(""), steps=1, **changes)))
    return path


def test_messages_have_a_time_whoever_set_up_logging_before(tmp_path, program):
    root, ours = logging.getLogger(), logging.getLogger("croco3d")
    elsewhere = logging.NullHandler()
    before = (ours.level, ours.propagate, list(ours.handlers))
    root.addHandler(elsewhere)
    try:
        done = program(write(tmp_path / "run.yaml"))
    finally:
        root.removeHandler(elsewhere)
    assert done.exit_code == 0, done.output
    stamp = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO "
    for message in ("all weights are newly initialised", "starting at step 0 of 1", "step 1: loss"):
        assert re.search(stamp + message, done.stderr), done.stderr
    assert (ours.level, ours.propagate, ours.handlers) == before


def test_new_weights_are_named_in_the_log(tmp_path, program):
    first = program(write(tmp_path / "first.yaml", model={"name": "dust3r"}))
    assert first.exit_code == 0, first.output
    changed = training_toys.tiny_model()
    changed["decoder_config"]["hidden_size"] = 16
    model = {"init_from": str(tmp_path / "first" / "last"), "config": changed}
    path = write(tmp_path / "second.yaml", model=model)
    done = program(path)
    assert done.exit_code == 0, done.output
    assert re.search(r"INFO took over \d+ of \d+ weights from", done.stderr)
    assert re.search(r"WARNING newly initialised: decoder\.", done.stderr)
    again = program(path, "steps=2")
    assert "resuming at step 1 of 2" in again.stderr
    assert "newly initialised" not in again.stderr


def test_wrong_options_end_as_wrong_usage(tmp_path, program):
    done = program(write(tmp_path / "run.yaml"), "optimizer.learning_rat=1")
    assert done.exit_code == 2
    assert "learning_rate" in done.stderr
    assert not (tmp_path / "run").exists()


def test_show_prints_the_whole_configuration_and_trains_nothing(tmp_path, program):
    done = program(write(tmp_path / "run.yaml"), "--show", "steps=7")
    assert "steps: 7" in done.stdout and "weight_decay: 0.05" in done.stdout
    assert not (tmp_path / "run").exists()
