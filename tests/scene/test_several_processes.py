"""Two real processes that meet in a folder, as a launcher starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.scene import Scene, reconstruct

pytestmark = pytest.mark.slow


def tiny_model() -> Dust3rForStereo:
    torch.manual_seed(0)
    parts = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    return Dust3rForStereo(
        Dust3rConfig(
            encoder_config={"model_type": "croco3d_croco_encoder", **parts},
            decoder_config={"model_type": "croco3d_pair_decoder", **parts},
            head_config={"model_type": "croco3d_linear_head"},
            image_size=64,
        )
    )


def start(rank: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "croco3d", *arguments],
        env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_two_processes_make_the_scene_of_one(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((96, 96)).save(photographs / f"{index}.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path / "scene.npz"
    arguments = ["reconstruct", str(photographs), "-m", str(tmp_path / "model"), "--seed", "3",
                 "-o", str(output), "--cache", str(tmp_path / "cache")]  # fmt: skip
    processes = [start(rank, port, arguments) for rank in range(2)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 12
    # One process speaks and writes; both did half of the pairs.
    assert "Wrote" in said[0] and "Wrote" not in said[1] and "Predicting" not in said[1]
    together = Scene.load(output)
    assert together.info["pairs_predicted"] == 12
    alone = reconstruct(photographs, model=tmp_path / "model", seed=3, progress=False)
    for one, other in zip(together.pointmaps, alone.pointmaps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
