import json
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from corner_room import CAMERA, HEIGHT, WIDTH, make_pose, make_sample
from scipy.spatial.transform import Rotation

from croco3d.evaluation import (
    ConstantDepth,
    IdentityPose,
    MeanPointmap,
    ModelMethod,
    SiftTriangulation,
    StereoEstimate,
    evaluate,
    measure,
)
from croco3d.geometry import invert_pose, transform_points
from croco3d.modeling.outputs import EncoderOutput, StereoOutput


@pytest.fixture(scope="module")
def dataset():
    turns = ([0, 8, 2], [3, -6, 0], [-2, 4, 5])
    shifts = ([0.4, 0.0, 0.1], [-0.3, 0.1, 0.2], [0.2, -0.2, -0.2])
    steps = enumerate(zip(turns, shifts, strict=True))
    return [make_sample(number, make_pose(*step)) for number, step in steps]


@dataclass
class Oracle:
    """The truth, scaled, with an error that grows by the pair's number."""

    noise: float = 0.0
    name: str = "oracle"

    def __call__(self, sample):
        world2cam = invert_pose(sample["cam2world1"])
        maps = [transform_points(world2cam, sample[f"pointmap{view}"]) for view in (1, 2)]
        grow = self.noise * int(sample["name1"][1:])
        maps[1] = maps[1] + grow * torch.tensor([1.0, 0.0, 0.0])
        relative = world2cam @ sample["cam2world2"]
        return StereoEstimate(3 * maps[0], 3 * maps[1], pose2=relative, focal=110.0)


def test_the_truth_has_no_error(dataset):
    errors = measure(Oracle()(dataset[0]), dataset[0])
    good = {"coverage", "f_score", "normal_within", "delta_median_scale", "delta_scale_shift"}
    for name, value in errors.items():
        if name in ("abs_rel_none", "delta_none"):
            continue
        expected = 1.0 if name in good else 0.0
        # Neighbours on the plane beyond a wall's edge and float32 bound what can be exact.
        assert value == pytest.approx(expected, abs=2e-2), name
    assert errors["abs_rel_none"] == pytest.approx(2.0, rel=1e-4)


def test_classical_geometry_finds_the_poses_of_textured_rooms(dataset):
    for sample in dataset:
        estimate = SiftTriangulation()(sample)
        errors = measure(estimate, sample)
        assert errors["rotation"] < 1.0
        assert errors["translation"] < 4.0
        assert errors["pointmap"] < 0.05
        assert 0.001 < errors["coverage"] < 0.2
        assert "focal" not in errors


def test_classical_geometry_leaves_points_without_parallax_out(dataset):
    usual = SiftTriangulation()(dataset[0])
    strict = SiftTriangulation(min_parallax=6.0)(dataset[0])
    counts = [int(e.pointmap1.isfinite().all(-1).sum()) for e in (strict, usual)]
    assert 0 < counts[0] < counts[1]
    kept = strict.pointmap1[strict.pointmap1.isfinite().all(-1)]
    to_second = kept - strict.pose2[:3, 3]
    cosine = torch.nn.functional.cosine_similarity(kept, to_second, dim=-1)
    assert torch.rad2deg(cosine.acos()).min() >= 6.0 - 0.01


def test_classical_geometry_fails_openly_without_texture(dataset):
    blank = dict(dataset[0])
    blank["pixel_values1"] = torch.zeros(3, HEIGHT, WIDTH)
    errors = measure(SiftTriangulation()(blank), blank)
    assert errors == {"coverage": 0.0, "rotation": 180.0, "translation": 180.0}


def test_mean_pointmap_is_the_best_constant_of_its_pairs(dataset):
    mean = MeanPointmap().fit(dataset)
    alone = MeanPointmap().fit(dataset[:1])
    own = measure(alone(dataset[0]), dataset[0])
    assert own["pointmap"] == pytest.approx(0.0, abs=1e-3)
    everyone = [measure(mean(sample), sample)["pointmap"] for sample in dataset]
    assert all(0.01 < error for error in everyone)
    others = [measure(alone(sample), sample)["pointmap"] for sample in dataset]
    assert sum(everyone) < sum(others)
    with pytest.raises(ValueError, match="fitted"):
        mean({**dataset[0], "valid1": torch.ones(2, 2, dtype=torch.bool)})


def test_baselines_without_images_say_what_they_can(dataset):
    flat = measure(ConstantDepth()(dataset[0]), dataset[0])
    assert flat["pointmap"] > 0.05
    assert "rotation" not in flat
    still = measure(IdentityPose()(dataset[0]), dataset[0])
    angle = np.degrees(Rotation.from_euler("xyz", [0, 8, 2], degrees=True).magnitude())
    assert still["rotation"] == pytest.approx(angle, abs=1e-3)
    assert still["translation"] == 180.0


class TrueModel(torch.nn.Module):
    """Knows the samples by their images; answers as a stereo model does."""

    def __init__(self, samples):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.samples = samples
        self.encoded = 0

    def encode(self, pixel_values, true_shape=None):
        self.encoded += 1
        return EncoderOutput(last_hidden_state=pixel_values, true_shape=true_shape)

    def decode(self, features1, features2):
        for sample in self.samples:
            for first, second in ((1, 2), (2, 1)):
                if torch.equal(features1.last_hidden_state[0], sample[f"pixel_values{first}"]):
                    world2cam = invert_pose(sample[f"cam2world{first}"])
                    maps = [
                        transform_points(world2cam, sample[f"pointmap{view}"])[None]
                        for view in (first, second)
                    ]
                    ones = [torch.ones(points.shape[:-1]) for points in maps]
                    # Each order has a scale of its own.
                    return StereoOutput(first * maps[0], first * maps[1], *ones)
        raise AssertionError("unknown image")


def test_model_is_run_in_both_orders_with_each_image_encoded_once(dataset):
    model = TrueModel(dataset)
    estimate = ModelMethod(model)(dataset[1])
    assert model.encoded == 2
    errors = measure(estimate, dataset[1])
    assert errors["rotation"] < 0.05
    assert errors["translation"] < 0.1
    assert errors["pointmap"] < 1e-4
    assert errors["focal"] < 1e-3


class WideEyedModel(TrueModel):
    """Takes every field of view for wider than it is."""

    def decode(self, features1, features2):
        output = super().decode(features1, features2)
        wider = torch.tensor([1.3, 1.3, 1.0])
        return StereoOutput(
            output.pointmap1 * wider,
            output.pointmap2 * wider,
            output.confidence1,
            output.confidence2,
        )


def test_known_intrinsics_undo_a_wrong_field_of_view(dataset):
    report = evaluate(
        WideEyedModel(dataset), dataset, baselines=(), name="wide", known_intrinsics=True
    )
    plain, told = report.summary["wide"], report.summary["wide, known intrinsics"]
    assert plain["focal"] == pytest.approx(1 - 1 / 1.3, abs=1e-3)
    assert plain["pointmap"] > 0.05 and plain["rta_5"] < 1
    assert told["pointmap"] < 1e-4 and told["rta_5"] == 1
    assert "focal" not in told
    with pytest.raises(ValueError, match="NoneType"):
        evaluate(None, dataset, known_intrinsics=True)


def test_focal_of_views_stored_transposed(dataset):
    lying = dict(dataset[0])
    for view in (1, 2):
        for key in ("pointmap", "valid", "depth"):
            lying[f"{key}{view}"] = lying[f"{key}{view}"].transpose(0, 1)
        lying[f"pixel_values{view}"] = lying[f"pixel_values{view}"].transpose(1, 2)
        lying[f"intrinsics{view}"] = CAMERA[[1, 0, 2]]
    estimate = ModelMethod(TrueModel([lying]))(lying)
    assert estimate.focal == pytest.approx(110.0, rel=1e-3)
    assert measure(estimate, lying)["focal"] < 1e-3
    flat = ConstantDepth()(lying).pointmap1
    torch.testing.assert_close(flat, ConstantDepth()(dataset[0]).pointmap1.transpose(0, 1))


def test_evaluate_writes_tables_and_pictures(dataset, tmp_path):
    report = evaluate(Oracle(noise=0.2), dataset, output=tmp_path, pictures=1, progress=False)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["summary"] == report.summary
    assert list(saved["summary"]) == [
        "oracle",
        "mean pointmap",
        "constant depth",
        "identity pose",
        "SIFT + essential matrix",
        "oracle, SIFT's pixels",
    ]
    sparse, classical = (saved["summary"][name] for name in list(saved["summary"])[:3:-1])
    assert sparse["coverage"] == classical["coverage"] < 0.1
    assert 0 < sparse["pointmap"] < 2 * saved["summary"]["oracle"]["pointmap"]
    assert saved["pairs"][2] == ["corner", "a2", "b2"]
    table = (tmp_path / "report.md").read_text()
    assert "| Relative rotation within 5 degrees (RRA@5) | 100.0 % | – | – | 0.0 % |" in table
    assert "3 pairs" in table
    best, worst = (cv2.imread(str(tmp_path / f"{kind}_1.png")) for kind in ("best", "worst"))
    assert best.shape == worst.shape
    assert best.shape[0] > 2 * HEIGHT
    assert best.shape[1] >= 3 * WIDTH
    assert (best != worst).any()


def test_pictures_show_the_true_depth_as_estimated(dataset):
    from croco3d.evaluation.pictures import draw_pair

    picture = draw_pair(Oracle()(dataset[0]), dataset[0], "caption: Ä")
    row = picture[18 : 18 + HEIGHT]
    true, found = row[:, WIDTH + 4 : 2 * WIDTH + 4], row[:, 2 * (WIDTH + 4) : 3 * WIDTH + 8]
    assert np.abs(true.astype(int) - found).max() <= 2
    nothing = draw_pair(StereoEstimate(), dataset[0], "")
    assert (nothing[18 : 18 + HEIGHT, 2 * (WIDTH + 4) : 3 * WIDTH + 8] == 128).all()


def test_evaluate_spreads_a_limit_and_restores_training_mode(dataset):
    model = TrueModel(dataset).train()
    report = evaluate(model, dataset, baselines=(), limit=2, progress=False, name="true")
    assert [pair[1] for pair in report.pairs] == ["a0", "a1"]
    assert report.summary["true"]["rra_5"] == 1.0
    assert model.training


def test_evaluate_refuses_nonsense(dataset):
    with pytest.raises(ValueError, match="no pairs"):
        evaluate(None, [])
    with pytest.raises(ValueError, match="limit"):
        evaluate(None, dataset, limit=0)
    with pytest.raises(ValueError, match="'median_pointmap'"):
        evaluate(None, dataset, baselines=("median_pointmap",))
