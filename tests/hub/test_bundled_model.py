"""The model in the package, by its name."""

import logging
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from croco3d import AutoCroco3D, Dust3rForStereo, Dust3rImageProcessor
from croco3d.demo import demo_views

FOLDER = Path(str(files("croco3d"))) / "assets" / "croco3d-rooms"


def test_name_resolves_to_the_bundled_copy_and_says_so(caplog):
    with caplog.at_level(logging.INFO, logger="croco3d"):
        model = AutoCroco3D.from_pretrained("croco3d-rooms")
    assert isinstance(model, Dust3rForStereo)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.license == "apache-2.0"
    assert any(str(FOLDER) in record.getMessage() for record in caplog.records)


def test_a_pair_goes_through_processor_and_model():
    model = AutoCroco3D.from_pretrained("croco3d-rooms").eval()
    processor = Dust3rImageProcessor.from_pretrained("croco3d-rooms")
    first, second = processor(demo_views(2))["pixel_values"].split(1)
    assert first.shape == (1, 3, 96, 128)
    with torch.no_grad():
        outputs = model(first, second)
    assert float(outputs.pointmap1[..., 2].min()) > 0
    assert float(outputs.confidence1.min()) >= 1


def test_package_stays_small_and_the_card_states_licence_and_limits():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 25e6
    card = ModelCard.load(FOLDER / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "croco3d"
    assert "no model for" in card.text


def test_unreachable_models_name_the_bundled_one(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="--model croco3d-rooms"):
        AutoCroco3D.from_pretrained("someone/unknown", cache_dir=tmp_path)
