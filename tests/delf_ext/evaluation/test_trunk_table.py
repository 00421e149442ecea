"""Test the table of ranked trunks: its order, its paired tests and its conclusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf_ext.evaluation.intervals import paired_bootstrap
from delf_ext.evaluation.trunk_picture import draw_trunks
from delf_ext.evaluation.trunk_table import TrunkRow, TrunkTable, trunk_table

RNG = np.random.default_rng(0)
GOOD = tuple(RNG.uniform(0.5, 0.9, 40).tolist())


def row(weights: str, precisions: tuple[float | None, ...], **changes: Any) -> TrunkRow:
    values: dict[str, Any] = dict(
        weights=weights,
        trunk="efficientnet_lite0",
        pooling="avg",
        size_px=224,
        average_precisions=precisions,
        recalls_at_1=tuple(None if value is None else 1.0 for value in precisions),
        images_per_s=10.0,
        gmac=0.4,
        gmac_by_block={"stem": 0.1, "head": 0.3},
        megabytes=13.7,
        num_parameters=3_400_000,
        dimension=1280,
        num_gallery=40,
        runtime="tensorflow",
        precision="float32",
        batch_size=32,
        num_cores=2,
    )
    return TrunkRow(**(values | changes))


def lower(values: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(value - by for value in values)


@pytest.fixture(scope="module")
def table() -> TrunkTable:
    # Better for some queries, worse for others, by 0.01 in the mean.
    noisy = tuple((np.array(GOOD) + np.tile([0.1, -0.12], 20)).tolist())
    rows = [
        row("bad", lower(GOOD, 0.3), images_per_s=500.0),
        row("good", GOOD),
        row("similar", noisy, images_per_s=25.0),
    ]
    return trunk_table(rows, seed=3)


def test_rows_are_sorted_and_compared_with_the_best(table: TrunkTable) -> None:
    assert [one.weights for one in table.rows] == ["good", "similar", "bad"]
    assert table.differences[0] is None
    for one, gap in zip(table.rows[1:], table.differences[1:]):
        assert gap == paired_bootstrap(table.best.precisions, one.precisions, 3)
    assert table.differences[2] is not None
    assert table.differences[2].mean == pytest.approx(0.3)


def test_conclusion_names_the_best_and_a_faster_row_that_may_be_as_good(
    table: TrunkTable,
) -> None:
    assert table.faster is not None and table.faster.weights == "similar"
    line = table.conclusion()
    assert line.startswith("best: good, avg, 224 px (mAP 0.")
    assert (
        "; similar, avg, 224 px is 2.5 times as fast and not clearly worse (-0.0100, p = 0." in line
    )
    slower = trunk_table([row("good", GOOD), row("bad", lower(GOOD, 0.3), images_per_s=99)], 0)
    assert slower.faster is None and slower.conclusion().endswith(").")


def test_text_has_a_line_for_each_row_and_says_what_was_measured(table: TrunkTable) -> None:
    header, _, best, similar, _, _, *notes = str(table).splitlines()
    assert header.split()[:4] == ["weights", "px", "pooling", "mAP"]
    assert best.split()[:3] == ["good", "224", "avg"]
    assert similar.split()[-1] != "<0.001"
    assert notes[0] == "40 queries scored in 40 images; no training."
    assert "tensorflow, float32, batches of 32, 2 cores" in notes[1]
    assert len({line.find("..") for line in (best, similar)}) == 1


def test_queries_without_relevant_images_are_left_out() -> None:
    with_none = row("a", (None, 0.5, 0.7))
    assert with_none.mean_average_precision == pytest.approx(0.6)
    table = trunk_table([with_none, row("b", (None, 0.4, 0.5))], 0)
    assert "2 queries scored" in str(table) and "warning: intervals over 2 queries" in str(table)


def test_figures_are_json_and_have_no_values_of_single_queries(table: TrunkTable) -> None:
    figures = json.loads(json.dumps(table.figures()))
    assert [one["weights"] for one in figures] == ["good", "similar", "bad"]
    assert figures[0]["mAP"] == pytest.approx(np.mean(GOOD))
    assert figures[2]["best_minus_this"]["mean"] == pytest.approx(0.3)
    assert "average_precisions" not in figures[0]


def test_rows_of_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="of different queries"):
        trunk_table([row("a", (0.5, 0.5)), row("b", (0.5,))], 0)
    with pytest.raises(ValueError, match="nothing to rank"):
        trunk_table([], 0)


def test_picture_is_drawn(table: TrunkTable, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra viz")
    draw_trunks(tmp_path / "trunks.png", table)
    with Image.open(tmp_path / "trunks.png") as image:
        assert image.size == (960, 600)
        colors = {color for _, color in image.convert("RGB").getcolors(2**20)}
    # The three weights, each in its own colour.
    assert {(0x2A, 0x78, 0xB8), (0xD9, 0x79, 0x2B), (0x3A, 0x9A, 0x5B)} <= colors
