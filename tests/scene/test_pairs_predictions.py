import numpy as np
import pytest
import torch

from croco3d.scene.predictions import PairPredictions


def maps(pairs=2, height=4, width=5):
    return torch.rand(pairs, height, width, 3) + 1, torch.rand(pairs, height, width) + 1


def test_reads_what_was_given_in_any_floating_type():
    points, confidence = maps()
    for convert in (torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.numpy):
        stored = PairPredictions(
            np.array([[0, 1], [1, 0]]), *[convert(t) for t in (points, points)],
            convert(confidence), convert(confidence),
        )  # fmt: skip
        read, c = stored.read(1, 0)
        assert read.dtype == c.dtype == torch.float32
        torch.testing.assert_close(read, points[1], rtol=1e-2, atol=1e-2)
    assert stored.image_count == 2 and len(stored) == 2


def test_images_of_mixed_sizes():
    small, large = torch.ones(3, 4, 3), torch.ones(6, 5, 3)
    stored = PairPredictions([(0, 1), (1, 0)], [small, large], [large, small])
    assert stored.sizes == [(3, 4), (6, 5)]
    assert stored.observations(1) == [(0, 1), (1, 0)]
    assert stored.read(0, 1)[1].shape == (6, 5)


def test_a_store_is_read_only_when_asked():
    class Store:
        def __init__(self):
            self.opened = []

        def __len__(self):
            return 2

        def __getitem__(self, index):
            self.opened.append(index)
            return torch.full((4, 5, 3), torch.nan if index else 1.0)

    store = Store()
    stored = PairPredictions([(0, 1), (1, 0)], store, store, sizes=[(4, 5), (4, 5)])
    assert store.opened == []
    stored.read(0, 0)
    with pytest.raises(ValueError, match=r"pair 1 \(1, 0\) has values that are not finite"):
        stored.read(1, 0)


def test_refuses_what_does_not_fit():
    points, confidence = maps()
    pairs = [(0, 1), (1, 0)]
    broken = points.clone()
    broken[1, 2, 3] = torch.inf
    cases = [
        ((pairs, points, points[:1]), {}, "pointmaps2 has 1 entries for 2 pairs"),
        ((pairs, points[..., :2], points), {}, r"must be \(H, W, 3\)"),
        ((pairs, points, points[:, :3]), {}, "expected"),
        ((pairs, broken, points), {}, "not finite"),
        ((pairs, points, points, confidence[:, :3], confidence), {}, "confidence 1 of pair 0"),
        (([(0, 0), (1, 0)], points, points), {}, "two different"),
        (([(0, -1), (1, 0)], points, points), {}, "two different"),
        (([], points[:0], points[:0]), {}, "No pairs"),
        (([(0, 2), (2, 0)], points, points), {}, r"images \[1\]"),
        (([(0, 2), (2, 0)], points, points), {"names": ["a", "b"]}, "numbered 0 to 1"),
        ((pairs, points, points), {"images": [torch.zeros(4, 5, 3)] * 2}, "uint8"),
        ((pairs, points, points), {"names": ["a", "b", "c"], "sizes": [(4, 5)] * 2}, "3 entries"),
    ]
    for arguments, keywords, message in cases:
        with pytest.raises(ValueError, match=message):
            PairPredictions(*arguments, **keywords)
