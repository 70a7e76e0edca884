import doctest
import importlib

import pytest

MODULES = (
    "cameras",
    "focal",
    "matches",
    "poses",
    "registration",
    "similarity",
    "statistics",
    "surfaces",
)


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples_hold(name):
    import torch

    module = importlib.import_module(f"croco3d.geometry.{name}")
    failed, attempted = doctest.testmod(module, extraglobs={"torch": torch})
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name):
    module = importlib.import_module(f"croco3d.geometry.{name}")
    public = [
        value
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and value.__module__ == module.__name__
    ]
    functions = [value for value in public if not isinstance(value, type)]
    assert [value.__name__ for value in functions if ">>>" not in (value.__doc__ or "")] == []
