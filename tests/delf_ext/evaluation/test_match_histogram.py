from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from delf_ext.evaluation.match_histogram import (
    accepted_share,
    choose_threshold,
    draw_match_histogram,
)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=300), st.sampled_from([0.0, 0.005, 0.1, 0.5])
)
def test_choose_threshold_is_the_smallest_within_the_share(
    counts: list[int], max_false_share: float
) -> None:
    slow = next(
        threshold
        for threshold in range(1, 42)
        if accepted_share(counts, threshold) <= max_false_share
    )
    assert choose_threshold(counts, max_false_share) == slow


def test_choose_threshold_allows_five_of_a_thousand_pairs() -> None:
    counts = [3] * 995 + [20] * 5
    assert choose_threshold(counts) == 4 and choose_threshold([*counts, 20]) == 21
    assert choose_threshold([0, 0]) == 1  # a pair without inliers is never accepted


def test_choose_threshold_refusals() -> None:
    with pytest.raises(
        ValueError, match="a threshold needs at least one pair of different objects."
    ):
        choose_threshold([])
    with pytest.raises(
        ValueError, match="max_false_share must be at least 0 and below 1. Received 1.0."
    ):
        choose_threshold([1], 1.0)


def test_draws_png_with_and_without_matching_pairs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_match_histogram(tmp_path / "new" / "inliers.png", [10, 80, 3000], [-1, 0, 3, 5], 12)
    draw_match_histogram(tmp_path / "scores.png", np.array([]), np.array([-7.25, 0.5, 3.0]), 2.5)
    for path in (tmp_path / "new" / "inliers.png", tmp_path / "scores.png"):
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert (
            picture.shape == (540, 960, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "scores.png"]


def test_histogram_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="a histogram needs at least one verified pair."):
        draw_match_histogram(tmp_path / "x.png", [], [], 12)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ValueError, match=r'needs matplotlib: pip install -e "\.\[viz\]" in the clone'
    ):
        draw_match_histogram(tmp_path / "x.png", [1], [2], 12)
    assert not (tmp_path / "x.png").exists()
