from __future__ import annotations

import csv
import dataclasses
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_io.datasets import load_dataset
from data_io.synthetic.dataset import draw_dataset
from data_io.synthetic.looks import QUERY_LOOK, REFERENCE_LOOK
from data_io.synthetic.photographs import warp
from data_io.synthetic.shots import DrawConfig, plan, share_out

TINY = DrawConfig(
    num_classes=3, num_train=7, num_queries=3, num_gallery=11, image_size_px=48, seed=5
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_csv(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("tiny"), TINY, progress=False)


# --- sizes and plan


def test_default_sizes_are_those_of_the_challenge() -> None:
    shots = plan(DrawConfig())
    folders = ("train/train_data", "test/test_data/query", "test/test_data/reference")
    num_images = [sum(shot.path.startswith(folder) for shot in shots) for folder in folders]
    # The sizes of the NAVER AI Hackathon 2018.
    assert num_images == [7104, 195, 1127]
    train = Counter(shot.label for shot in shots if shot.path.startswith("train"))
    assert len(train) == 1000
    assert 4 <= min(train.values()) < max(train.values()) <= 10
    references = Counter(shot.label for shot in shots if "reference" in shot.path)
    assert min(references.values()) >= 3


@given(st.integers(1, 60), st.integers(0, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_share_out_distributes_all_images_with_at_least_one_per_class(
    num_classes: int, extra: int, seed: int
) -> None:
    counts = share_out(num_classes + extra, num_classes, np.random.default_rng(seed))
    assert counts.shape == (num_classes,)
    assert counts.sum() == num_classes + extra
    assert counts.min() >= 1
    assert counts.max() - 1 <= np.ceil(1.3 / 0.7 * extra / num_classes)


@given(
    st.integers(1, 12),
    st.integers(0, 30),
    st.integers(1, 25),
    st.integers(1, 60),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_plan_has_other_classes_in_test_than_in_training(
    num_classes: int, extra: int, num_queries: int, num_gallery: int, seed: int
) -> None:
    shots = plan(DrawConfig(num_classes, num_classes + extra, num_queries, num_gallery, seed=seed))
    train = [shot for shot in shots if shot.path.startswith("train/")]
    query = [shot for shot in shots if shot.path.startswith("test/test_data/query/")]
    gallery = [shot for shot in shots if shot.path.startswith("test/test_data/reference/")]
    assert (len(train), len(query), len(gallery)) == (num_classes + extra, num_queries, num_gallery)
    assert len({shot.path for shot in shots}) == len({shot.id for shot in shots}) == len(shots)
    # Class and view are the seed of a photograph, so they must differ.
    assert len({(shot.class_index, shot.view) for shot in shots}) == len(shots)
    assert {shot.label for shot in train}.isdisjoint(shot.label for shot in query + gallery)
    assert {shot.label for shot in query} == {shot.label for shot in gallery}
    assert {shot.id for shot in query} == {f"query_{i}" for i in range(num_queries)}
    assert {shot.id for shot in gallery} == {f"refer_{i}" for i in range(num_gallery)}
    assert len({len(shot.label) for shot in shots}) == 1
    assert all(int(shot.label) == shot.class_index for shot in shots)
    looks = {shot.path.startswith("test/test_data/query/"): shot.look for shot in shots}
    assert looks == {True: QUERY_LOOK, False: REFERENCE_LOOK}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1. Received 0."),
        ({"num_classes": 8, "num_train": 7}, "num_train must be at least num_classes=8"),
        ({"num_queries": 0}, "num_queries must be at least 1"),
        ({"num_gallery": 0}, "num_gallery must be at least 1"),
        ({"image_size_px": 31}, "image_size_px must be in 32..2048. Received 31."),
        ({"seed": -1}, "seed must be in"),
        ({"seed": 2**32}, "seed must be in"),
        ({"num_train": 7104.0}, "num_train must be a whole number. Received 7104.0."),
    ],
)
def test_config_refuses_impossible_sizes(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrawConfig(**sizes)


# --- the folder


def test_folder_has_the_documented_files(tiny: Path) -> None:
    files = files_of(tiny)
    images = {path for path in files if path.endswith(".jpg")}
    assert images == {shot.path for shot in plan(TINY)}
    assert files.keys() - images == {"drawn.json", "geometry.csv", "test/test_labels.csv"}
    for path in images:
        with Image.open(tiny / path) as image:
            assert (image.size, image.mode, image.format) == ((48, 48), "RGB", "JPEG")
    labels = read_csv(tiny / "test/test_labels.csv")
    assert labels[0] == ["id", "label"]
    assert len(labels) == 1 + 3 + 11
    geometry = read_csv(tiny / "geometry.csv")
    assert ",".join(geometry[0]) == "id,label,h00,h01,h02,h10,h11,h12,h20,h21,h22"
    assert len(geometry) == 1 + 7 + 3 + 11
    assert all(float(row[-1]) == 1.0 for row in geometry[1:])


def test_load_dataset_finds_each_image_with_the_ids_of_geometry(tiny: Path) -> None:
    data = load_dataset(tiny)
    lists = (data.train, data.query, data.gallery)
    assert [len(images) for images in lists] == [7, 3, 11]
    assert data.skipped == ()
    label_of = {row[0]: row[1] for row in read_csv(tiny / "geometry.csv")[1:]}
    class_of = {
        str(image_id): data.class_names[label]
        for images in lists
        for image_id, label in zip(images.ids, images.labels, strict=True)
    }
    assert class_of == label_of


def test_bytes_do_not_depend_on_run_or_number_of_workers(tiny: Path, tmp_path: Path) -> None:
    expected = files_of(tiny)
    assert files_of(draw_dataset(tmp_path / "again", TINY, progress=False, workers=1)) == expected
    assert files_of(draw_dataset(tmp_path / "pool", TINY, progress=False, workers=2)) == expected
    other = draw_dataset(tmp_path / "other", dataclasses.replace(TINY, seed=6), progress=False)
    query = "test/test_data/query/query_0.jpg"
    assert files_of(other)[query] != expected[query]


def test_a_complete_folder_is_not_changed(tmp_path: Path) -> None:
    draw_dataset(tmp_path, TINY, progress=False)
    (tmp_path / "test/test_data/query/query_0.jpg").write_bytes(b"touched")
    assert draw_dataset(str(tmp_path), TINY, progress=False) == tmp_path
    assert (tmp_path / "test/test_data/query/query_0.jpg").read_bytes() == b"touched"


def test_an_incomplete_folder_is_completed(tiny: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path, TINY, progress=False)
    for name in ("drawn.json", "geometry.csv", "test/test_data/query/query_1.jpg"):
        (tmp_path / name).unlink()
    (tmp_path / "test/test_data/query/query_2.jpg").write_bytes(b"\xff\xd8 cut off")
    (tmp_path / ".drawn.json.x1").write_bytes(b"left by a kill")
    expected = files_of(tiny) | {".drawn.json.x1": b"left by a kill"}
    assert files_of(draw_dataset(tmp_path, TINY, progress=False)) == expected


@pytest.mark.parametrize("failing_call", [1, 3])
def test_an_interrupted_drawing_never_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    calls = []

    def full_disk(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == failing_call:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", full_disk)
        message = r"cannot be written \(.*No space left.*\)\. Make room or choose another folder"
        with pytest.raises(ValueError, match=message):
            draw_dataset(tmp_path, TINY, progress=False)
    assert not (tmp_path / "drawn.json").exists()
    draw_dataset(tmp_path, TINY, progress=False)
    assert (tmp_path / "drawn.json").exists()


def test_a_killed_drawing_leaves_no_process_and_no_complete_folder(
    tmp_path: Path, root: Path
) -> None:
    code = f"""\
from data_io.synthetic.dataset import DrawConfig, draw_dataset
if __name__ == '__main__':
    config = DrawConfig(num_classes=300, num_train=3000, num_queries=1, num_gallery=1)
    draw_dataset({str(tmp_path)!r}, config, progress=False, workers=2)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not any(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
        assert any(tmp_path.rglob("*.jpg"))
        process.kill()
        # The workers also have the pipe open, so it closes when the last of them has ended.
        process.communicate(timeout=30)
    assert not (tmp_path / "drawn.json").exists()


def test_another_config_is_refused(tiny: Path) -> None:
    before = files_of(tiny)
    message = "contains a data set drawn as .*'seed': 5.*, not .*'seed': 6.*Choose another folder"
    with pytest.raises(ValueError, match=message):
        draw_dataset(tiny, dataclasses.replace(TINY, seed=6), progress=False)
    assert files_of(tiny) == before


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "train/train_data/0").mkdir(parents=True)
    (tmp_path / "train/train_data/0/cat.jpg").write_bytes(b"mine")
    message = "contains train/train_data/0/cat.jpg, which does not belong to this drawn data set"
    with pytest.raises(ValueError, match=message):
        draw_dataset(tmp_path, TINY, progress=False)
    assert files_of(tmp_path) == {"train/train_data/0/cat.jpg": b"mine"}


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"file: cannot be written"):
        draw_dataset(tmp_path / "file", TINY, progress=False)


def test_the_smallest_data_set_can_be_drawn(tmp_path: Path) -> None:
    config = DrawConfig(num_classes=1, num_train=1, num_queries=1, num_gallery=1, image_size_px=32)
    draw_dataset(tmp_path, config, progress=False)
    assert (tmp_path / "train/train_data/0/0_0.jpg").is_file()
    assert read_csv(tmp_path / "test/test_labels.csv")[1:] == [["query_0", "1"], ["refer_0", "1"]]


# --- the task


def test_the_print_identifies_a_product_but_the_mean_colour_does_not(tmp_path: Path) -> None:
    config = DrawConfig(
        num_classes=1, num_train=1, num_queries=40, num_gallery=200, image_size_px=64
    )
    draw_dataset(tmp_path, config, progress=False)
    rows = {row[0]: row for row in read_csv(tmp_path / "geometry.csv")[1:]}
    mean_colours = {}
    fronts = {}
    labels = {}
    for kind, folder in (("query", "query"), ("refer", "reference")):
        ids = [name for name in rows if name.startswith(kind)]
        labels[kind] = np.array([rows[name][1] for name in ids])
        images = [Image.open(tmp_path / f"test/test_data/{folder}/{name}.jpg") for name in ids]
        mean_colours[kind] = np.array([np.asarray(image).mean(axis=(0, 1)) for image in images])
        homographies = [np.array(rows[name][2:], float).reshape(3, 3) for name in ids]
        rectified = [
            np.asarray(warp(image, np.linalg.inv(h), 64), float)[8:56, 20:44]
            for image, h in zip(images, homographies, strict=True)
        ]
        fronts[kind] = np.array(
            [((front - front.mean((0, 1))) / front.std((0, 1))).ravel() for front in rectified]
        )

    def recall_at_1(descriptors: dict[str, np.ndarray]) -> float:
        query, refer = descriptors["query"], descriptors["refer"]
        nearest = ((query[:, None] - refer[None]) ** 2).sum(axis=2).argmin(axis=1)
        return float((labels["refer"][nearest] == labels["query"]).mean())

    assert recall_at_1(mean_colours) < 0.4
    assert recall_at_1(fronts) > 0.8
