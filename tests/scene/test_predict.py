import logging

import numpy as np
import pytest
import torch
from standin import ExactModel, Room

from croco3d.scene import predict
from croco3d.scene.memory import format_size, parse_size
from croco3d.scene.pairs import make_pairs
from croco3d.scene.predict import predict_pairs
from croco3d.scene.processes import own_device

MIXED = ((320, 240), (240, 320), (320, 240), (320, 200))


@pytest.fixture(scope="module")
def room():
    return Room(MIXED)


@pytest.fixture
def inputs(room):
    return room.processor(room.photographs)


def assert_exact(predictions, room, tolerance=1e-6):
    for number, (i, j) in enumerate(predictions.pairs):
        for view, image in enumerate((i, j)):
            points, confidence = predictions.read(number, view)
            expected = room.seen_from(image, i)
            error = (points - expected).norm(dim=-1) / expected.norm(dim=-1)
            assert error.max() < tolerance
            assert (confidence == 10).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_image_is_encoded_once_and_mixed_sizes_share_a_call(room, inputs, batch_size):
    model = ExactModel(room)
    predictions = predict_pairs(model, inputs, make_pairs(4), batch_size=batch_size)
    assert len(predictions) == 12
    assert sorted(model.encoded) == [0, 1, 2, 3]
    assert sorted(model.decoded) == sorted(predictions.pairs)
    assert_exact(predictions, room)
    assert predictions.sizes == [(112, 160), (160, 112), (112, 160), (96, 160)]
    assert predictions.original_sizes == list(MIXED)


def test_images_are_forgotten_after_their_last_pair(room, inputs):
    model = ExactModel(room)
    pixels = list(inputs["pixel_values"])
    encoded = predict.EncodedImages(model, pixels)
    held = []
    model.decode = lambda a, b, real=model.decode: held.append(len(encoded._held)) or real(a, b)
    predict_pairs(model, inputs, [(0, 1), (1, 2), (2, 3)], encoded=encoded)
    assert max(held) == 2
    assert not encoded._held


def test_half_precision_keeps_four_digits_of_any_range(room, inputs, monkeypatch):
    monkeypatch.setattr(predict, "FLOAT32_LIMIT", 0)
    model = ExactModel(room)
    real = model.decode

    def far(a, b):
        output = real(a, b)
        output.pointmap1, output.pointmap2 = output.pointmap1 * 1e6, output.pointmap2 * 1e-6
        return output

    model.decode = far
    predictions = predict_pairs(model, inputs, [(0, 1)])
    for view, factor in ((0, 1e6), (1, 1e-6)):
        points, _ = predictions.read(0, view)
        expected = room.seen_from((0, 1)[view], 0) * factor
        torch.testing.assert_close(points, expected, rtol=5e-4, atol=1e-4 * factor)


def test_cache_resumes_after_an_interruption(room, inputs, tmp_path):
    pairs = make_pairs(4)
    with pytest.raises(KeyboardInterrupt):
        predict_pairs(ExactModel(room, fail_after=5), inputs, pairs, cache=tmp_path)
    model = ExactModel(room)
    predictions = predict_pairs(model, inputs, pairs, cache=tmp_path)
    assert len(model.decoded) == 12 - 5
    assert_exact(predictions, room)
    idle = ExactModel(room)
    assert_exact(predict_pairs(idle, inputs, pairs, cache=tmp_path), room)
    assert not idle.decoded and not idle.encoded


def test_cache_of_other_images_weights_or_precision_is_not_used(room, inputs, tmp_path):
    predict_pairs(ExactModel(room), inputs, [(0, 1)], cache=tmp_path)

    other_weights = ExactModel(room)
    other_weights.truth[0] += 1
    predict_pairs(other_weights, inputs, [(0, 1)], cache=tmp_path)
    assert other_weights.decoded == [(0, 1)]

    half = ExactModel(room)
    half.recognise = lambda pixels: 0
    predict_pairs(half, inputs, [(0, 1)], cache=tmp_path, dtype=torch.bfloat16)
    assert half.decoded

    swapped = ExactModel(room)
    turned = room.processor([room.photographs[i] for i in (2, 1, 0, 3)])
    predictions = predict_pairs(swapped, turned, [(2, 1), (0, 1)], cache=tmp_path)
    # Image 0 of before is image 2 now: known by its content, not its number.
    assert swapped.decoded == [(2, 1)]
    assert torch.equal(predictions.read(0, 0)[0], room.seen_from(0, 0))


def test_a_file_in_place_of_the_cache_is_refused(room, inputs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        predict_pairs(ExactModel(room), inputs, [(0, 1)], cache=tmp_path / "file")


def test_memory_is_stated_and_refused_before_the_work(room, inputs, caplog, tmp_path):
    model = ExactModel(room)
    with caplog.at_level(logging.INFO, "croco3d"):
        with pytest.raises(ValueError, match=r"more than the 1\.0 MB allowed.*dtype"):
            predict_pairs(model, inputs, make_pairs(4), max_memory="1MB")
    assert "12 pairs of 4 images needs about" in caplog.text
    assert not model.encoded
    encoded = predict.EncodedImages(model, list(inputs["pixel_values"]))
    pairs = [(0, 2)] * 1000
    order = predict._order(pairs, encoded)
    plan = predict.plan_memory(encoded, pairs, order, torch.float16, in_memory=True)
    assert plan.store == 1000 * 2 * 112 * 160 * 4 * 2
    with pytest.raises(ValueError, match="cache"):
        plan.check(plan.total - 1)
    plan.check(plan.total)
    on_disk = predict.plan_memory(encoded, pairs, order, torch.float16, in_memory=False)
    assert on_disk.total == plan.total - plan.store


@pytest.mark.parametrize("text", ["", "8 XB", "-3GB", "0", "GB"])
def test_amounts_of_memory_that_mean_nothing(text):
    with pytest.raises(ValueError, match="8GB"):
        parse_size(text)


def test_amounts_of_memory():
    assert parse_size(12) == 12
    assert parse_size("2 gib") == 2 * 2**30
    assert format_size(2_500_000) == "2.5 MB"


def test_values_that_are_not_finite_are_reported(room, inputs):
    model = ExactModel(room, confidence=float("nan"))
    predictions = predict_pairs(model, inputs, [(0, 1)])
    with pytest.raises(ValueError, match="not finite"):
        predictions.read(0, 0)


def test_several_processes_need_a_common_folder(room, inputs, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes need a folder"):
        predict_pairs(ExactModel(room), inputs, make_pairs(4))


def test_processes_share_the_pairs(room, inputs, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    pairs = make_pairs(4)
    order = predict._order(pairs, predict.EncodedImages(None, list(inputs["pixel_values"]), 1))
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        shares.append([n for batch in predict._share(order, "folder") for n in batch])
    assert own_device("cuda") == "cuda:1" and own_device("cuda:0") == "cuda:0"
    assert own_device("cpu") == "cpu"
    assert sorted(shares[0] + shares[1]) == list(range(12))
    assert abs(len(shares[0]) - len(shares[1])) <= 1


def test_room_is_what_the_photographs_show(room):
    """The stand-in's points project to the colours of the photographs."""
    points = room.points[1]
    local = (points - room.poses[0][:3, 3]) @ room.poses[0][:3, :3]
    pixels = local @ room.intrinsics[0].T
    u, v = (pixels[..., axis] / pixels[..., 2] for axis in (0, 1))
    inside = (u >= 0) & (u <= 319) & (v >= 0) & (v <= 239) & (local[..., 2] > 0)
    painted = room.paint(points)[inside].astype(int)
    seen = room.photographs[0][v[inside].round().astype(int), u[inside].round().astype(int)]
    assert inside.mean() > 0.4
    assert np.median(np.abs(painted - seen)) < 8
