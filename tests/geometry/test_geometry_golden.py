from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from croco3d.geometry import estimate_focal, nearest_neighbours, reciprocal_matches

GOLDEN = Path(__file__).parents[1] / "golden" / "geometry" / "expected.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.mark.parametrize("method", ["weiszfeld", "median"])
def test_focals_match_golden(golden, method):
    focal = estimate_focal(golden["pts3d"], golden["pp"], method=method)
    torch.testing.assert_close(focal, golden[f"focal_{method}"], rtol=1e-5, atol=0)


def test_nearest_neighbours_match_golden(golden):
    index = nearest_neighbours(golden["match_b"], golden["match_a"])
    assert torch.equal(index, golden["nearest_b_in_a"])


def test_reciprocal_matches_match_golden(golden):
    matches = reciprocal_matches(golden["match_a"], golden["match_b"])
    mutual = golden["reciprocal_in_b"].bool()
    expected = torch.stack((golden["nearest_b_in_a"], torch.arange(150)), dim=1)[mutual]
    assert torch.equal(matches, expected[expected[:, 0].argsort()])
