"""Test `rerank` with local features of a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.files.artifacts import load_record
from data_io.records import Ranking
from data_io.stores.local_features import load_local
from data_io.synthetic.dataset import DrawConfig
from delf_ext.features.local.delf import DelfExtractor


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=4, num_gallery=12, image_size_px=96)
    )


def test_rerank_writes_ranking_figures_page_and_stores_and_reuses_them(
    place: Path, tmp_path: Path, capsys, monkeypatch, run_verb
) -> None:
    out = tmp_path / "out"
    flags = [f"--out={out}", "--local_rotations=0,90,180,270"]
    method = ["--method=geometric:5", "--min_inliers=5"]
    run_verb(place, "rerank", *flags, *method)
    printed = capsys.readouterr().out
    assert "attention: length of the feature vectors" in printed and "mAP - first" in printed
    ranking = load_record(out / "ranking.npz", Ranking)
    assert ranking.rows.shape == (4, 12) and "top 5 re-ranked geometrically" in ranking.provenance
    figures = json.loads((out / "metrics.json").read_text())
    verified = figures["verification"]
    assert verified["matching_pairs"] + verified["other_pairs"] == 4 * 5
    assert verified["accepted_from"] == [5]
    # The first five candidates are reordered, not exchanged.
    assert figures["before"]["recall_at_5"] == figures["after"]["recall_at_5"]
    assert "class='inliers" in (out / "report" / "index.html").read_text()
    assert Image.open(out / "inliers.png").size[0] > 300
    candidates = {ranking.gallery_ids[row] for row in np.unique(ranking.rows[:, :5])}
    # Local features were extracted for these only.
    assert set(load_local(out / "local" / "delf" / "gallery").ids) == candidates

    with monkeypatch.context() as patch:
        patch.setattr(DelfExtractor, "extract", lambda *_: pytest.fail("extracted again"))
        run_verb(place, "rerank", *flags, *method, "--noreport")
    np.testing.assert_array_equal(load_record(out / "ranking.npz", Ranking).rows, ranking.rows)

    with pytest.raises(SystemExit) as ended:
        run_verb(place, "rerank", *flags, "--max_features=40")
    assert ended.value.code == 1 and "Pass --overwrite" in capsys.readouterr().err


def test_rerank_with_both_kinds_of_features_stores_both(
    place: Path, tmp_path: Path, run_verb
) -> None:
    pytest.importorskip("cv2")
    run_verb(
        place,
        "rerank",
        f"--out={tmp_path}",
        "--local_features=both",
        "--order_by=combined",
        "--noreport",
    )
    assert {path.name for path in (tmp_path / "local").iterdir()} == {
        "delf",
        "sift",
        "whitening.npz",
    }
