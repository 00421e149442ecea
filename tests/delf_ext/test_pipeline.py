"""The main path: block-wise scoring equals scoring the whole ranking, skipped images leave ids and rows in step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import ImageList
from delf_ext.evaluation.metrics import hits_of
from delf_ext.pipeline import embed, rank, score


@dataclass(frozen=True)
class MeanColour:
    """A real, if modest, model."""

    image_size: int = 8
    digest: str = "mean colour"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32).mean(axis=(1, 2)) - 127.0


@pytest.fixture
def photographs(tmp_path: Path) -> ImageList:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 3))
    paths, labels = [], []
    for i in range(12):
        pixels = np.clip(colours[i % 4] + rng.integers(-9, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
        paths.append(str(tmp_path / f"{i:02}.png"))
        labels.append(i % 4)
        Image.fromarray(pixels).save(paths[-1])
    Path(paths[5]).write_bytes(b"no picture")
    return ImageList([Path(path).stem for path in paths], paths, labels)


def test_blockwise_score_equals_the_whole_ranking(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    hits, truth = score(retrieval)
    whole = hits_of(rank(retrieval, top_k=None), truth)
    assert all(np.array_equal(a, b) for a, b in zip(hits.positions, whole.positions, strict=True))
    assert np.all(hits.num_relevant >= 1)


def test_a_bad_photograph_is_skipped_once_and_rows_stay_in_step(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    assert retrieval.query is retrieval.gallery and len(retrieval.gallery) == 11
    assert [Path(path).stem for path, _ in retrieval.skipped] == ["05"]
    ranking = rank(retrieval, top_k=1)
    assert ranking.gallery_ids[ranking.rows[:, 0]].tolist() == retrieval.query.ids.tolist()  # each is its own nearest


def test_other_queries_than_the_gallery(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1, 2, 3]), photographs.take([4, 6, 7, 8, 9, 10, 11])
    hits, truth = score(embed(MeanColour(), query, gallery, batch_size=4))
    assert truth.num_gallery == 7 and all(len(junk) == 0 for junk in truth.junk)
    assert all(positions[0] == 0 for positions in hits.positions)  # the colours are far apart
