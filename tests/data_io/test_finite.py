"""Find the first weight whose numbers are not usable."""

from __future__ import annotations

import numpy as np
import pytest

from data_io.finite import fault_of, require_finite


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("w", [1.0, np.nan, 2.0], "1 of 3 numbers are NaN"),
        ("w", [np.inf, -np.inf], "2 of 2 numbers are infinite"),
        ("bn/moving_variance", [1.0, -1e-9], "1 of 2 numbers are negative"),
        ("bn1.running_var", [-1.0], "1 of 1 numbers are negative"),
        ("bn/moving_variance:0", [-1.0], "1 of 1 numbers are negative"),
        ("bn/moving_mean", [-1.0], ""),
        ("bn/moving_variance", [0.0], ""),
        ("w", [3e38, 3e38], ""),
        ("empty", [], ""),
    ],
)
def test_fault_of(name: str, values: list[float], fault: str):
    assert fault_of(name, np.array(values, np.float32)) == fault


def test_integers_and_texts_have_no_fault():
    assert fault_of("step", np.array(-1)) == ""
    assert fault_of("names", np.array([b"a"])) == ""
    assert fault_of("half", np.array([np.inf], np.float16)) == "1 of 1 numbers are infinite"


def test_first_fault_is_named():
    good = np.zeros(2, np.float32)
    bad = np.full(2, np.nan, np.float32)
    require_finite("a.ckpt", {"x": good})
    with pytest.raises(ValueError) as caught:
        require_finite("a.ckpt", {"x": good, "y": bad, "z": bad})
    assert str(caught.value) == (
        "a.ckpt: y: 2 of 2 numbers are NaN. The training that made these weights diverged: "
        "take an earlier checkpoint."
    )
