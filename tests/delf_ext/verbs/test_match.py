"""Test what `match` says about a pair of images."""

from __future__ import annotations

import numpy as np
import pytest

from delf_ext.geometry.verification import Verification
from delf_ext.verbs.match import verdict


def verification(num_inliers: int, accepted: bool = False) -> Verification:
    rows = np.zeros([num_inliers, 2], np.int32)
    return Verification(rows, np.ones(num_inliers, bool), num_inliers, None, 0.0, accepted)


@pytest.mark.parametrize(
    ("verifications", "expected"),
    [
        ([verification(0)], "no match: 0 inliers, 12 needed"),
        ([verification(30, accepted=True)], "match: 30 inliers, 12 needed"),
        ([verification(30)], "no match: the 30 inliers are in a thin strip"),
        ([verification(9), verification(22)], "no match: 22 inliers, 23 needed"),
        ([verification(90), verification(23, accepted=True)], "match: 23 inliers, 23 needed"),
    ],
)
def test_verdict_says_how_many_inliers_are_needed(
    verifications: list[Verification], expected: str
) -> None:
    assert verdict(verifications, [12, 23][: len(verifications)]) == expected
