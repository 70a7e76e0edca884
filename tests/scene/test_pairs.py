import json
from pathlib import Path

import pytest
import torch

from croco3d.scene.pairs import (
    check_connected,
    connected_components,
    distinct_pairs,
    make_pairs,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pairs" / "expected.json").read_text())


@pytest.mark.parametrize("key", sorted(GOLDEN))
def test_equals_the_original_graphs(key):
    count, graph, prefilter, symmetrize = key.split("/")
    prefilter = prefilter.removeprefix("prefilter=")
    pairs = make_pairs(
        int(count.removeprefix("n=")),
        graph,
        symmetrize=symmetrize == "symmetrize=1",
        prefilter=None if prefilter == "None" else prefilter,
    )
    assert [list(pair) for pair in pairs] == GOLDEN[key]


def test_images_count_by_their_number():
    assert make_pairs(["a.jpg", "b.jpg", "c.jpg"]) == make_pairs(3)


def test_own_list_keeps_its_order_and_gains_the_reverses():
    assert make_pairs(4, [(2, 0), (1, 3), (0, 2)]) == [(2, 0), (1, 3), (0, 2), (3, 1)]
    assert make_pairs(4, [(2, 0), (1, 3)], symmetrize=False) == [(2, 0), (1, 3)]


def test_logarithmic_window_never_pairs_an_image_with_itself():
    assert all(i != j for i, j in make_pairs(4, "logwin-3"))


@pytest.mark.parametrize(
    "graph",
    ["rings", "swin-", "complete-2", "oneref-0-noncyclic", "swin-x", "complete-noncyclic", ""],
)
def test_unknown_graph_lists_the_choices(graph):
    with pytest.raises(ValueError, match="swin-K.*logwin-K.*oneref-I.*retrieval-K"):
        make_pairs(4, graph)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 1}, "two images"),
        ({"images": 3, "graph": "oneref-3"}, "numbered 0 to 2"),
        ({"images": 3, "graph": "swin-0"}, "at least 1"),
        ({"images": 3, "graph": [(0, 3)]}, "out of range"),
        ({"images": 3, "graph": [(1, 1)]}, "two different"),
        ({"images": 3, "graph": []}, "empty"),
        ({"images": 3, "prefilter": "near"}, "seqK"),
        ({"images": 3, "graph": "retrieval-2"}, r"features \(3, C\)"),
        ({"images": 3, "graph": "retrieval-2", "features": torch.full((3, 2), torch.nan)}, "fini"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_pairs(**arguments)


def test_retrieval_takes_the_nearest_and_stays_connected():
    angles = torch.tensor([0.0, 0.1, 0.25, 2.0, 2.1, 2.25])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    pairs = make_pairs(6, "retrieval-1", symmetrize=False, features=features)
    # nearest neighbours alone leave two groups; (2, 3) is the most similar pair between them
    assert pairs == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert len(connected_components(6, pairs)) == 1


def test_disconnected_graph_names_its_components():
    with pytest.raises(ValueError, match=r"\[0, 1\]; \[2, 3\]"):
        check_connected(4, [(0, 1), (3, 2)])
    with pytest.raises(ValueError, match=r"\[a, b\]; \[c\]"):
        check_connected(3, [(0, 1)], names=["a", "b", "c"])
    check_connected(4, make_pairs(4, "swin-1-noncyclic"))


def test_distinct_pairs_drop_self_pairs_and_repetitions():
    pairs = distinct_pairs(make_pairs(3, "swin-3"))
    assert pairs == make_pairs(3)
