"""Pushing to and loading from a Hub, end to end; the steps are in `hub_session.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import hub_session  # noqa: E402


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """A folder with the results of all steps, and the cache they filled."""
    folder = tmp_path_factory.mktemp("hub")
    _run("hub_session.py", str(folder))
    return folder


def _run(script: str, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("step", hub_session.STEPS)
def test_step(session, step):
    error = json.loads((session / "results.json").read_text())[step]
    assert not error, error


def test_offline_a_cached_model_loads_and_a_missing_one_is_named(session):
    message = _run("hub_offline.py", HF_HUB_OFFLINE="1", HF_HOME=str(session / "hf"))
    assert "'org/elsewhere'" in message and "HF_HUB_OFFLINE is set" in message
    assert "hf download org/elsewhere" in message and "\n" not in message
