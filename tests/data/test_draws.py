"""Draws, mixtures and batches: the same whatever the workers, ranks and interruptions."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from plane_scene import plane_source, plane_views
from torch.utils.data import DataLoader, Dataset, default_collate

from croco3d.data import (
    Augment,
    Draw,
    Frame,
    ImagePairFolder,
    Mixture,
    PairDataset,
    PairSource,
    ResolutionBatchSampler,
    TooManyUnreadableError,
    make_dataset,
    symmetrize,
)
from croco3d.data.draws import DrawDataset

RESOLUTIONS = [(32, 24), (24, 24), (40, 20)]


class Numbers(DrawDataset):
    """Gives the draw back, to see what a mixture asked for."""

    def __init__(self, count, seed=0, weights=None, resolutions=RESOLUTIONS):
        self.count, self.seed, self.resolutions = count, seed, resolutions
        self.weights = None if weights is None else np.array(weights, dtype=float)

    def __len__(self):
        return self.count

    def read(self, draw):
        return {"draw": tuple(draw)}


def indices(dataset, epoch):
    return [dataset.read(Draw(i, 0, epoch))["draw"][0] for i in range(len(dataset))]


def views_dataset(seed=0, resolutions=RESOLUTIONS):
    views = plane_views(4, size=(48, 36))
    pairs = np.array([[0, 1], [1, 2], [2, 3], [0, 2], [1, 3]])
    return PairDataset(PairSource("plane", views, pairs), resolutions, Augment(), seed=seed)


def test_resampling_uses_every_sample_equally_often_over_epochs():
    small = 3 @ Numbers(7)
    drawn = Counter(i for epoch in range(7) for i in indices(small, epoch))
    assert drawn == dict.fromkeys(range(7), 3)
    assert indices(small, 2) == indices(3 @ Numbers(7), 2) != indices(small, 3)
    assert indices(small, 0) != indices(3 @ Numbers(7, seed=1), 0)
    large = Counter(indices(20 @ Numbers(7), 0))
    assert len(large) == 7 and set(large.values()) == {2, 3}


def test_draws_of_the_same_sample_within_an_epoch_differ():
    big = 20 @ views_dataset()
    draws = [big.resolve(Draw(i, 0, 0)) for i in range(20)]
    assert len(set(draws)) == 20
    same = [i for i, draw in enumerate(draws) if draw.index == draws[0].index]
    first, second = (big.read(Draw(i, 0, 0))["pixel_values1"] for i in same[:2])
    assert not torch.equal(first, second)


def test_weights_decide_how_often_pairs_are_drawn():
    drawn = Counter(indices(8000 @ Numbers(3, weights=[1, 0, 3]), 0))
    assert drawn[1] == 0
    assert 0.22 < drawn[0] / 8000 < 0.28
    assert indices(10 @ Numbers(3, weights=[1, 0, 3]), 1) == indices(
        10 @ Numbers(3, weights=[1, 0, 3]), 1
    )


def test_mixture_holds_its_members_in_the_sizes_asked_for():
    mixture = Mixture([4 @ Numbers(10), 6 @ Numbers(3), Numbers(2)])
    assert len(mixture) == 12
    assert [mixture[i]["draw"][0] for i in (10, 11, -1)] == [0, 1, 1]
    assert all(mixture[i]["draw"][0] < 3 for i in range(4, 10))
    assert mixture[(11, 2)]["draw"][1] == 2
    mixture.set_epoch(5)
    assert mixture[11]["draw"][2] == 5
    with pytest.raises(IndexError):
        mixture[12]
    with pytest.raises(IndexError, match="Resolution 3"):
        mixture[(0, 3)]
    with pytest.raises(ValueError, match="share their resolutions"):
        Mixture([Numbers(3), Numbers(3, resolutions=[(8, 8)])])
    with pytest.raises(ValueError, match="positive integer"):
        0 @ Numbers(3)


def batches(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_batches_have_one_resolution_and_cover_the_epoch():
    plain = batches(ResolutionBatchSampler(Numbers(103), 8, seed=1), epoch=3)
    assert len(plain) == 12 and all(len(batch) == 8 for batch in plain)
    assert all(len({draw.resolution for draw in batch}) == 1 for batch in plain)
    assert {batch[0].resolution for batch in plain} == {0, 1, 2}
    assert all(draw.epoch == 3 for batch in plain for draw in batch)
    assert len({draw.index for batch in plain for draw in batch}) == 96
    assert plain != batches(ResolutionBatchSampler(Numbers(103), 8, seed=1), epoch=4)
    assert plain != batches(ResolutionBatchSampler(Numbers(103), 8, seed=2), epoch=3)
    whole = batches(ResolutionBatchSampler(Numbers(10), 4, shuffle=False, drop_last=False))
    assert [draw.index for batch in whole for draw in batch] == list(range(10))
    assert [batch[0].resolution for batch in whole] == [0, 1, 2]


def test_ranks_share_out_the_same_global_batches():
    alone = batches(ResolutionBatchSampler(Numbers(50), 8, seed=1), epoch=2)
    ranks = [
        batches(ResolutionBatchSampler(Numbers(50), 8, seed=1, rank=rank, world_size=2), epoch=2)
        for rank in range(2)
    ]
    joined = [first + second for first, second in zip(*ranks, strict=True)]
    assert joined == alone
    with pytest.raises(ValueError, match="multiple"):
        ResolutionBatchSampler(Numbers(50), 9, world_size=2)
    with pytest.raises(ValueError, match="do not fill"):
        ResolutionBatchSampler(Numbers(5), 8)


def test_resuming_goes_on_with_the_batch_that_would_have_come():
    sampler = ResolutionBatchSampler(Numbers(50), 8, seed=1)
    whole = batches(sampler, epoch=2)
    sampler.set_epoch(2, start=4)
    assert len(sampler) == 2 and list(sampler) == whole[4:]
    sampler.set_epoch(3)
    assert len(list(sampler)) == 6
    with pytest.raises(ValueError, match="start=7"):
        sampler.set_epoch(2, start=7)


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_do_not_depend_on_workers(workers):
    def read(workers):
        data = Mixture([5 @ views_dataset(), 3 @ views_dataset(seed=1)])
        sampler = ResolutionBatchSampler(data, 4, seed=0)
        keep = workers > 0
        loader = DataLoader(
            data, batch_sampler=sampler, num_workers=workers, persistent_workers=keep
        )
        result = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            result += list(loader)
        return result

    expected, got = read(0), read(workers)
    assert len(expected) == len(got) == 4
    for first, second in zip(expected, got, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            same = (
                torch.equal(value, second[key]) if torch.is_tensor(value) else value == second[key]
            )
            assert same, key
    assert not torch.equal(expected[0]["pixel_values1"], expected[2]["pixel_values1"])


@pytest.mark.parametrize("skip", [0, 2])
def test_accelerate_shards_skips_and_sets_epochs(skip):
    """What accelerate's own wrappers do to the sampler, on two ranks and a resumed loader."""
    from accelerate.data_loader import prepare_data_loader, skip_first_batches

    data = Numbers(32)
    expected = batches(ResolutionBatchSampler(data, 8, seed=1), epoch=3)
    ranks = []
    for rank in range(2):
        loader = DataLoader(
            data, batch_sampler=ResolutionBatchSampler(data, 8, seed=1), collate_fn=list
        )
        prepared = prepare_data_loader(
            loader, num_processes=2, process_index=rank, split_batches=True, put_on_device=False
        )
        prepared.set_epoch(3)
        resumed = skip_first_batches(prepared, skip) if skip else prepared
        ranks.append([[Draw(*s["draw"]) for s in batch] for batch in resumed])
    joined = [first + second for first, second in zip(*ranks, strict=True)]
    assert joined == expected[skip:]


def test_symmetrize_interleaves_both_orders():
    batch = default_collate([views_dataset()[(i, 0)] for i in range(2)])
    both = symmetrize(batch)
    assert both.keys() == batch.keys()
    for key in ("pixel_values", "pointmap", "cam2world", "true_shape"):
        one, two = batch[f"{key}1"], batch[f"{key}2"]
        assert torch.equal(both[f"{key}1"], torch.stack((one[0], two[0], one[1], two[1])))
        assert torch.equal(both[f"{key}2"], torch.stack((two[0], one[0], two[1], one[1])))
    assert both["name1"] == ["view0", "view1", "view1", "view2"]
    assert both["name2"] == ["view1", "view0", "view2", "view1"]
    assert both["dataset"] == ["plane"] * 4


def broken_dataset(tmp_path, broken=(1,), max_unreadable=100):
    views = plane_views(4)
    frames = [
        Frame(tmp_path / "gone.png", v.depth, v.intrinsics, v.cam2world, v.name)
        if i in broken
        else v
        for i, v in enumerate(views)
    ]
    pairs = PairSource("plane", frames, np.array([[0, 0], [1, 1], [2, 2], [3, 3]]))
    return PairDataset(pairs, 24, max_unreadable=max_unreadable, seed=4)


def test_unreadable_samples_are_reported_and_replaced(tmp_path, caplog):
    dataset = broken_dataset(tmp_path)
    with caplog.at_level(logging.WARNING, "croco3d.data"):
        sample = dataset[1]
    assert "view1" in caplog.text and "gone.png" in caplog.text
    assert sample["name1"] in {"view0", "view2", "view3"}
    assert dataset[1]["name1"] == broken_dataset(tmp_path)[1]["name1"] == sample["name1"]
    replacements = {dataset[(1, 0, epoch)]["name1"] for epoch in range(20)}
    assert len(replacements) == 3


def test_too_many_unreadable_samples_stop_with_their_names(tmp_path):
    dataset = broken_dataset(tmp_path, broken=(1, 2), max_unreadable=1)
    for epoch in range(3):
        dataset_ok = dataset[(0, 0, epoch)]
        assert dataset_ok["name1"] == "view0"
    with pytest.raises(TooManyUnreadableError, match="(?s)view1.*view2"):
        for epoch in range(20):
            dataset[(1, 0, epoch)]
            dataset[(2, 0, epoch)]
    with pytest.raises(TooManyUnreadableError, match="view3"):
        broken_dataset(tmp_path, broken=(0, 1, 2, 3))[0]


def test_unreadable_samples_count_over_workers(tmp_path):
    dataset = broken_dataset(tmp_path, broken=(1, 2), max_unreadable=1)
    loader = DataLoader(dataset, batch_size=1, num_workers=2)
    with pytest.raises(TooManyUnreadableError):
        for _ in range(5):
            list(loader)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cam2world": np.full((4, 4), np.nan)}, "NaN"),
        ({"cam2world": np.diag([2.0, 2, 2, 1])}, "not rigid"),
        ({"cam2world": np.diag([1.0, 1, -1, 1])}, "not rigid"),
        ({"intrinsics": np.diag([-100.0, 100, 1])}, "positive"),
        ({"depth": np.zeros((36, 48))}, "min_valid"),
        ({"depth": np.zeros((36, 48, 3))}, "depth map is"),
    ],
)
def test_impossible_frames_are_unreadable(change, message, caplog):
    good, other = plane_views(2)
    source = PairSource("p", [replace(good, **change), other], np.array([[0, 1], [1, 1]]))
    dataset = PairDataset(source, 24)
    assert dataset[0]["name1"] == "view1"
    assert message in caplog.text


def test_missing_packages_are_not_unreadable_samples(tmp_path):
    def needs_package():
        raise ImportError("install it")

    view = plane_views(1)[0]
    frame = Frame(view.image, needs_package, view.intrinsics, view.cam2world, "v")
    with pytest.raises(ImportError, match="install it"):
        PairDataset(PairSource("p", [frame], np.array([[0, 0]])), 24)[0]


@pytest.mark.parametrize(
    ("pairs", "weights", "message"),
    [
        (np.zeros((0, 2)), None, "no pair"),
        ([[0, 9]], None, "0 to 1"),
        ([[0, 1]], [1.0, 2.0], "as many weights"),
        ([[0, 1]], [0.0], "not all zero"),
        ([[0, 1]], [np.nan], "finite"),
    ],
)
def test_impossible_sources_are_refused(pairs, weights, message):
    with pytest.raises(ValueError, match=message):
        PairSource("p", plane_source().frames, np.array(pairs), weights)


def test_resolutions_and_options_are_checked():
    source = plane_source()
    assert PairDataset(source, 32).resolutions == [(32, 32)]
    assert PairDataset(source, (32, 24)).resolutions == [(32, 24)]
    assert PairDataset(source, [[32, 24], 16]).resolutions == [(32, 24), (16, 16)]
    for bad in (0, [], [(1, 2, 3)], (32, -1)):
        with pytest.raises(ValueError, match="resolution="):
            PairDataset(source, bad)
    with pytest.raises(ValueError, match="crop='middle'"):
        PairDataset(source, 32, crop="middle")
    with pytest.raises(ValueError, match="zoom=0.5"):
        Augment(zoom=0.5)


def write_pictures(root, names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / name)


def test_image_pairs_by_name_and_by_list(tmp_path):
    write_pictures(tmp_path, ["a/0_1.png", "a/0_2.png", "b/7_1.png", "b/7_2.png", "b/8_1.png"])
    dataset = ImagePairFolder(tmp_path, 24, name="walks")
    assert dataset.pairs == [("a/0_1.png", "a/0_2.png"), ("b/7_1.png", "b/7_2.png")]
    sample = dataset[1]
    assert sample.keys() == {"pixel_values1", "pixel_values2", "name1", "name2", "dataset"}
    assert sample["pixel_values1"].shape == (3, 24, 24)
    assert sample["pixel_values1"].abs().max() <= 1 and sample["name2"] == "b/7_2.png"
    assert sample["dataset"] == "walks"
    (tmp_path / "pairs.txt").write_text("# pairs\nb/8_1.png a/0_1.png\n\na/0_1.png\tb/7_1.png\n")
    listed = ImagePairFolder(tmp_path, 24, pairs=tmp_path / "pairs.txt", augment=Augment())
    assert listed.pairs == [("b/8_1.png", "a/0_1.png"), ("a/0_1.png", "b/7_1.png")]
    assert torch.equal(listed[0]["pixel_values1"], listed[0]["pixel_values1"])
    whole = ImagePairFolder(tmp_path, (24, 18))[1]
    mirrored = ImagePairFolder(tmp_path, (24, 18), augment=Augment(0, 0, 0, 0, mirror=1.0))[1]
    assert torch.equal(mirrored["pixel_values1"], whole["pixel_values1"].flip(-1))
    assert torch.equal(mirrored["pixel_values2"], whole["pixel_values2"].flip(-1))
    (tmp_path / "bad.txt").write_text("one two three\n")
    with pytest.raises(ValueError, match="line 1"):
        ImagePairFolder(tmp_path, 24, pairs=tmp_path / "bad.txt")
    with pytest.raises(ValueError, match="No pair"):
        ImagePairFolder(tmp_path / "a" / "none", 24)


def test_factory_builds_mixtures_from_plain_mappings(tmp_path):
    write_pictures(tmp_path, ["0_1.png", "0_2.png"])
    specs = [
        {"reader": "image_pairs", "root": str(tmp_path), "size": 5},
        {"reader": "image_pairs", "root": str(tmp_path)},
    ]
    dataset = make_dataset(specs, [(24, 16), (16, 16)], augment={"hue": 0.0}, seed=3)
    assert isinstance(dataset, Dataset) and len(dataset) == 6
    assert dataset[(0, 1)]["pixel_values1"].shape == (3, 16, 16)
    with pytest.raises(ValueError, match="'hue'"):
        make_dataset(specs, 16, augment={"hues": 0.1})
    with pytest.raises(ValueError, match="'pairs'"):
        make_dataset({"reader": "image_pairs", "root": tmp_path, "pair": "x"}, 16)
    with pytest.raises(ValueError, match="'portrait'"):
        make_dataset({"reader": "nerfstudio", "root": tmp_path, "portrai": "swap"}, 16)
