"""Test `draw`."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--draw_classes=0", "--draw_classes must be at least 1 and at most 1000000. Received 0."),
        ("--seed=-1", "--seed must be at least 0 and at most 4294967295. Received -1."),
    ],
)
def test_a_wrong_number_is_a_usage_error(flag: str, message: str, refused) -> None:
    assert message in refused(2, "draw", flag)
