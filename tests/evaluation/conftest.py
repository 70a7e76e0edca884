"""Make assertions in the shared helpers explain themselves."""

import pytest

pytest.register_assert_rewrite("corner_room")
