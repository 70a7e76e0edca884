import pytest
import training_toys
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Every test starts accelerate anew: it keeps its state for the whole process."""
    training_toys.register()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
