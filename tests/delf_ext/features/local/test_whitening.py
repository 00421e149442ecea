"""Test PCA whitening: values by hand, invariants, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from delf_ext.features.local.whitening import (
    Whitening,
    learn_whitening,
    load_whitening,
    save_whitening,
)

SAMPLE = (
    np.random.default_rng(0).normal(size=(500, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    + 3
)


def test_whitening_by_hand() -> None:
    # Points (3, 0), (-3, 0), (0, 1), (0, -1) around (1, 2) have the biased variances 9/2 and 1/2.
    points = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]]) + [1, 2]
    whitening = learn_whitening(points, 2)
    np.testing.assert_allclose(whitening.mean, [1, 2])
    np.testing.assert_allclose(
        whitening.projection, [[np.sqrt(2 / 9), 0], [0, np.sqrt(2)]], atol=1e-7
    )


def test_whitened_directions_are_uncorrelated_and_of_variance_one() -> None:
    whitening = learn_whitening(SAMPLE, 4)
    projected = (SAMPLE - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(np.cov(projected.T, bias=True), np.eye(4), atol=1e-5)


def test_largest_variances_are_kept_and_signs_are_fixed() -> None:
    whitening = learn_whitening(SAMPLE, 2)
    values, vectors = np.linalg.eigh(np.cov(SAMPLE.T, bias=True))
    for number in range(2):
        direction = whitening.projection[:, number] * np.sqrt(values[-1 - number])
        assert abs(direction @ vectors[:, -1 - number]) == pytest.approx(1.0, abs=1e-5)
        assert direction[np.abs(direction).argmax()] > 0
    assert learn_whitening(SAMPLE[::-1], 2).projection == pytest.approx(
        whitening.projection, abs=1e-6
    )


@pytest.mark.parametrize("dimension", [0, 7, 500])
def test_impossible_dimensions_raise_value_error(dimension: int) -> None:
    with pytest.raises(
        ValueError, match=f"whitening to {dimension} dimensions .* Received 500 of width 6"
    ):
        learn_whitening(SAMPLE, dimension)


def test_too_few_directions_raise_value_error() -> None:
    with pytest.raises(ValueError, match="span fewer than 3 dimensions"):
        learn_whitening(np.outer(np.arange(10.0), np.ones(4)), 3)


def test_saved_whitening_can_be_loaded(tmp_path: Path) -> None:
    whitening = learn_whitening(SAMPLE, 3, made_for="abc")
    save_whitening(tmp_path / "w.npz", whitening)
    loaded = load_whitening(tmp_path / "w.npz")
    np.testing.assert_array_equal(loaded.projection, whitening.projection)
    assert (loaded.made_for, loaded.digest, loaded.dimension) == ("abc", whitening.digest, 3)
    assert learn_whitening(SAMPLE, 2).digest != whitening.digest


def test_errors_name_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.npz: not found"):
        load_whitening(tmp_path / "none.npz")
    for name, content in (("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not a whitening"):
            load_whitening(tmp_path / name)
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz: not a whitening"):
        load_whitening(tmp_path / "other.npz")
    with pytest.raises(
        ValueError, match=r"mean \[C\], projection \[C, d\]. Received \(3,\), \(2, 2\)"
    ):
        Whitening(np.zeros(3), np.zeros((2, 2)))
