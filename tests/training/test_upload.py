"""What a finished run tells the Hub."""

import json

import training_toys

from croco3d.hub import publishing
from croco3d.hub.cards import model_card
from croco3d.training import TrainConfig, options, train
from croco3d.training.tracking import METRICS_FILE


def test_a_finished_run_uploads_with_its_facts(tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        publishing, "push_model", lambda model, name, **given: pushed.append((model, name, given))
    )
    config = training_toys.tiny_run(
        tmp_path,
        steps=2,
        data={"validation": [{"reader": "toy"}]},
        saving={"push_to_hub": "org/toy", "private": True},
    )
    train(options.parse(TrainConfig, config))
    ((model, name, given),) = pushed
    assert name == "org/toy" and given["private"] is True
    facts = given["facts"]
    assert facts.data == ["toy"] and facts.recipe["steps"] == 2
    assert facts.recipe["pairs a step"] == 2
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    last = [line for line in lines if any(key.startswith("validation/") for key in line)][-1]
    assert facts.figures == {
        key.removeprefix("validation/"): value
        for key, value in last.items()
        if "validation/" in key
    }
    card = model_card(model, name, facts)
    assert "Data: toy." in card and "learning rate: 0.001 to" in card
    assert str(tmp_path) not in card
