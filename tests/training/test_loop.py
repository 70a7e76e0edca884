import json
from functools import partialmethod

import numpy as np
import pytest
import torch
import training_toys
from accelerate import Accelerator
from PIL import Image

from croco3d.data import Mixture
from croco3d.modeling.croco import CrocoForPreTraining
from croco3d.modeling.dust3r import Dust3rForStereo
from croco3d.training import TrainConfig, options, setup, step, train
from croco3d.training.datasets import CurriculumStage, DataOptions, train_loader
from croco3d.training.terms import ConfidenceTerm, PointmapTerm, combine
from croco3d.training.tracking import METRICS_FILE, rewind


def run_of(folder, **changes):
    return options.parse(TrainConfig, training_toys.tiny_run(folder, **changes))


def one_step(folder, batches, **changes):
    run = setup(run_of(folder, **changes))
    step(run, batches)
    return torch.cat([p.detach().float().flatten() for p in run.model.parameters()])


def batches_of(count, size, **changes):
    data = DataOptions(train=[{"reader": "toy"}], resolution=[32, 32], batch_size=size, **changes)
    data.workers = 0
    return list(train_loader(data, Accelerator(cpu=True), 0, count, seed=1))


def test_a_run_leaves_what_it_promises(tmp_path):
    data = {"validation": [{"reader": "toy"}]}
    run = train(run_of(tmp_path, data=data, saving={"milestones": 4, "every": 2, "keep": 1}))
    assert run.step == 6
    for folder in ("best", "last", "models/step-00000004"):
        Dust3rForStereo.from_pretrained(tmp_path / folder)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000006"]
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    validations = [line for line in lines if "validation/pointmap" in line]
    assert [line["step"] for line in validations] == [3, 6]
    # The cameras of the toy data are parallel, so predicting no rotation is always right.
    assert validations[-1]["validation/rra5_identity"] == 1
    assert validations[-1]["validation/rotation_identity"] == pytest.approx(0, abs=1e-3)
    assert validations[-1]["validation/pointmap_mean"] < validations[-1]["validation/pointmap"]
    assert np.asarray(Image.open(tmp_path / "pictures" / "step-00000006.png")).ndim == 3
    again = options.parse(TrainConfig, options.load(tmp_path / "config.yaml"))
    assert again == run.config


def test_pixels_of_crocos_completion_fall(tmp_path):
    config = run_of(
        tmp_path,
        task={"name": "completion"},
        model={"name": "croco", "config": training_toys.tiny_croco()},
        data={"validation": [{"reader": "toy"}]},
    )
    run = train(config)
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    first, last = [line["validation/pixels"] for line in lines if "validation/pixels" in line]
    assert last < first
    # Patches are normalised, so their mean leaves an error of (n - 1) / n.
    assert lines[-1]["validation/pixels_flat"] == pytest.approx(1, abs=2e-3)
    assert isinstance(CrocoForPreTraining.from_pretrained(tmp_path / "last"), type(run.model))


def test_accumulated_passes_make_the_step_of_the_whole_batch(tmp_path):
    (whole,) = batches_of(1, 4)
    parts = [{key: value[i : i + 2] for key, value in whole.items()} for i in (0, 2)]
    changes = {"optimizer": {"clip": None}}
    one = one_step(tmp_path / "a", [whole], **changes)
    two = one_step(tmp_path / "b", parts, runtime={"accumulate": 2}, **changes)
    assert not torch.equal(one, one_step(tmp_path / "c", [parts[0]], **changes))
    # AdamW's first step divides gradients by their size, so only their signs and tiny ones differ.
    assert (one - two).abs().mean() < 1e-6


@pytest.mark.parametrize(
    "changes",
    [{"activation_checkpointing": True}, {"precision": "bf16"}, {"precision": "fp16"}],
)
def test_ways_to_compute_give_nearly_the_same_step(tmp_path, changes):
    batches = batches_of(1, 2)
    plain = setup(run_of(tmp_path / "a"))
    figures = step(plain, batches)
    other = step(setup_anew(tmp_path / "b", changes), batches)
    assert float(other["loss"]) == pytest.approx(float(figures["loss"]), rel=2e-2)
    assert float(other["gradient_norm"]) == pytest.approx(float(figures["gradient_norm"]), rel=5e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_step_is_nearly_the_plain_one(tmp_path, monkeypatch):
    # Traced as in earnest, but run as it is: a compiler would take minutes.
    traced = partialmethod(torch.nn.Module.compile, backend="eager")
    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    (batch,) = batches_of(1, 2)
    figures = step(setup(run_of(tmp_path / "a")), [batch])
    other = step(setup_anew(tmp_path / "b", {"compile": True}), [batch])
    assert float(other["loss"]) == pytest.approx(float(figures["loss"]), rel=1e-4)
    assert float(other["gradient_norm"]) == pytest.approx(float(figures["gradient_norm"]), rel=1e-3)


def setup_anew(folder, runtime):
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return setup(run_of(folder, runtime=runtime))


def test_terms_come_and_go():
    plain = PointmapTerm(end=0.3)
    confident = ConfidenceTerm(start=0.3, weight=2.0)
    fading = PointmapTerm(weight=0.5, end=0.8, fade=0.4)
    assert [plain.weight_at(p) for p in (0, 0.29, 0.3, 1)] == [1, 1, 0, 0]
    assert [confident.weight_at(p) for p in (0, 0.29, 0.3, 1)] == [0, 0, 2, 2]
    expected = [0.5, 0.5, 0.25, 0, 0]
    found = [fading.weight_at(p) for p in (0, 0.4, 0.6, 0.8, 1)]
    assert found == pytest.approx(expected)
    weights = [weight for weight, _ in combine([plain, confident, fading], 0.6).terms]
    assert weights == pytest.approx([2.0, 0.25])
    with pytest.raises(ValueError, match="no loss term"):
        combine([plain], 0.5)
    with pytest.raises(ValueError, match="fade"):
        PointmapTerm(start=0.5, end=0.6, fade=0.2)


def test_a_curriculum_reads_one_stage_after_the_other():
    stages = [
        CurriculumStage(until=0.25, train=[{"reader": "toy", "name": "near"}]),
        CurriculumStage(until=0.5, train=[{"reader": "toy", "name": "mid"}]),
    ]
    data = DataOptions(
        train=[{"reader": "toy", "name": "far"}],
        curriculum=stages,
        resolution=[32, 32],
        batch_size=2,
        workers=0,
    )
    accelerator = Accelerator(cpu=True)
    whole = list(train_loader(data, accelerator, 0, 16, seed=1))
    names = [batch["dataset"][0] for batch in whole]
    assert names == ["near"] * 4 + ["mid"] * 4 + ["far"] * 8
    seen = [name for batch in whole[8:11] for name in batch["name1"]]
    assert len(set(seen)) == len(seen)
    for start in (3, 4, 7, 13):
        rest = list(train_loader(data, accelerator, start, 16, seed=1))
        assert [b["name1"] for b in rest] == [b["name1"] for b in whole[start:]]
        assert all(
            torch.equal(a["pixel_values2"], b["pixel_values2"])
            for a, b in zip(rest, whole[start:], strict=True)
        )
    assert isinstance(train_loader(data, accelerator, 0, 16, seed=1).dataset, Mixture)
    with pytest.raises(ValueError, match="rising"):
        DataOptions(train=[{}], curriculum=stages[::-1])


def test_rewinding_drops_later_and_broken_lines(tmp_path):
    path = tmp_path / METRICS_FILE
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    rewind(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
