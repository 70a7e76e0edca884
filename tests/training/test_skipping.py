import pytest
import torch
import training_toys

from croco3d.training import TooManySkippedError, TrainConfig, options, setup, step, train
from croco3d.training.datasets import train_loader


def run_of(folder, gradient_only=False, **changes):
    config = training_toys.tiny_run(
        folder,
        task={
            "terms": [{"name": "broken", "gradient_only": gradient_only}],
            "symmetrize": False,
        },
        ema=0.5,
        **changes,
    )
    return options.parse(TrainConfig, config)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_broken_step_changes_nothing_and_names_the_sample(tmp_path, gradient_only, caplog):
    config = run_of(tmp_path, gradient_only)
    run = setup(config)
    skipped = []
    for batch in train_loader(config.data, run.accelerator, 0, 3, config.seed):
        before = [p.detach().clone() for p in run.model.parameters()]
        averages = [a.clone() for a in run.average.averages]
        figures = step(run, [batch])
        same = all(map(torch.equal, before, run.model.parameters()))
        assert all(map(torch.equal, averages, run.average.averages)) == same
        assert same == ("frame2" in batch["name1"])
        assert torch.isfinite(figures["gradient_norm"]) == (not same)
        skipped.append(same)
    # Seven pairs make three batches of two an epoch.
    assert skipped.count(True) == 1
    (saved,) = (tmp_path / "skipped").glob("*.pt")
    contents = torch.load(saved)
    assert "frame2" in contents["batch"]["name1"]
    assert "toy frame2 frame3" in contents["samples"]
    if not gradient_only:
        assert contents["samples"] == ["toy frame2 frame3"]
    assert "toy frame2 frame3" in caplog.text


def test_too_many_broken_steps_in_a_row_stop_the_run(tmp_path):
    config = run_of(tmp_path, monitoring={"max_skipped": 2}, data={"batch_size": 7})
    with pytest.raises(TooManySkippedError, match="2 steps in a row"):
        train(config)


def test_a_broken_gradient_saves_every_batch_of_its_accumulated_step(tmp_path):
    config = run_of(tmp_path, gradient_only=True, runtime={"accumulate": 3})
    run = setup(config)
    batches = list(train_loader(config.data, run.accelerator, 0, 3, config.seed))
    step(run, batches)
    saved = [torch.load(path)["batch"]["name1"] for path in (tmp_path / "skipped").glob("*.pt")]
    assert sorted(saved) == sorted(batch["name1"] for batch in batches)


def test_a_broken_pass_spoils_its_whole_accumulated_step(tmp_path):
    config = run_of(tmp_path, runtime={"accumulate": 3})
    run = setup(config)
    batches = list(train_loader(config.data, run.accelerator, 0, 6, config.seed))
    before = [p.detach().clone() for p in run.model.parameters()]
    step(run, batches[:3])
    assert all(map(torch.equal, before, run.model.parameters()))
    sound = [batch for batch in batches if "frame2" not in batch["name1"]]
    step(run, sound[:3])
    assert not all(map(torch.equal, before, run.model.parameters()))
