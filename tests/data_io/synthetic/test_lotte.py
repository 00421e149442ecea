"""Test the drawn Lotte competition, and that its tree is read."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import load_dataset
from data_io.synthetic.dataset import draw_dataset
from data_io.synthetic.looks import STREET_LOOK, STUDIO_LOOK
from data_io.synthetic.lotte import LotteConfig

TINY = LotteConfig(num_classes=3, train_per_class=4, test_per_class=5, image_size_px=32, seed=5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("lotte"), TINY, progress=False)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_default_sizes_are_those_of_the_competition() -> None:
    shots = LotteConfig().shots()
    kinds = Counter(shot.path.split("/")[1] for shot in shots)
    assert kinds == {"train": 48_000, "test": 72_000}
    assert len({shot.path for shot in shots}) == 120_000
    assert len({(shot.class_index, shot.view) for shot in shots}) == 120_000


def test_the_tree_is_the_one_of_the_competition(tiny: Path) -> None:
    files = {path.relative_to(tiny).as_posix() for path in tiny.rglob("*") if path.is_file()}
    photographs = {name for name in files if name.endswith(".jpg")}
    tables = {"data/train.csv", "data/sample.csv", "truth.csv", "drawn.json"}
    assert files - photographs == tables
    train = {f"data/train/{label}/{number}.jpg" for label in range(3) for number in range(4)}
    assert photographs == train | {f"data/test/{number}.jpg" for number in range(15)}
    assert lines(tiny / "data/train.csv")[:2] == ["path,label", "../data/train/0/0.jpg,0"]
    assert lines(tiny / "data/sample.csv")[:2] == ["filename,prediction", "0.jpg,"]
    truth = dict(line.split(",") for line in lines(tiny / "truth.csv")[1:])
    assert Counter(truth.values()) == {"0": 5, "1": 5, "2": 5}
    # The numbers of the photographs do not reveal the class.
    assert list(truth.values()) != sorted(truth.values())


def test_no_path_in_the_competition_names_a_test_label(tiny: Path) -> None:
    assert len(lines(tiny / "data/train.csv")) == 1 + 12
    assert not any("test" in line for line in lines(tiny / "data/train.csv"))
    assert all(line.endswith(",") for line in lines(tiny / "data/sample.csv")[1:])


def test_the_data_folder_is_read_without_labels_of_the_queries(tiny: Path) -> None:
    data = load_dataset(tiny / "data")
    assert (data.layout, data.class_names) == ("lotte", ("0", "1", "2"))
    assert (len(data.train), len(data.query), data.gallery is data.train) == (12, 15, True)
    assert data.query.labels is None
    assert data.query.ids.tolist() == sorted(f"test/{number}" for number in range(15))


def test_the_folder_above_also_gives_the_truth(tiny: Path, tmp_path: Path) -> None:
    data = load_dataset(tiny)
    truth = dict(line.split(",") for line in lines(tiny / "truth.csv")[1:])
    for path, label in zip(data.query.paths, data.query.labels, strict=True):
        assert data.class_names[label] == truth[Path(path).name]
    # The competition's own folder has src, model and data, and no truth.
    shutil.copytree(tiny / "data", tmp_path / "data")
    (tmp_path / "src").mkdir()
    assert load_dataset(tmp_path).query.labels is None


def test_the_data_folder_may_have_another_name(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "data", tmp_path / "competition")
    data = load_dataset(tmp_path / "competition")
    assert (len(data.train), len(data.query)) == (12, 15)


def test_a_table_that_names_other_files_is_one_clear_line(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "data", tmp_path / "data")
    (tmp_path / "data/train.csv").write_text("path,label\n../data/train/9/1.jpg,9\n")
    with pytest.raises(ValueError, match=r"train\.csv: none of the 1 train files exist") as error:
        load_dataset(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_a_missing_test_photograph_is_skipped_and_counted(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "data", tmp_path / "data")
    (tmp_path / "data/test/3.jpg").unlink()
    data = load_dataset(tmp_path / "data")
    assert len(data.query) == 14
    assert data.skipped == ((str(tmp_path / "data/test/3.jpg"), "file not found"),)
    assert "sample.csv: 1 of 15 query files were not found, such as 3.jpg" in data.notes


def test_photographs_without_a_row_in_the_truth_are_counted(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "lotte"))
    truth = folder / "truth.csv"
    truth.write_text("\n".join(lines(truth)[:12]) + "\n")
    note = "truth.csv: no label for 4 of the 15 photographs of sample.csv, such as 11.jpg"
    assert note in load_dataset(folder).notes


def test_a_second_label_is_refused(tiny: Path, tmp_path: Path) -> None:
    for table, row, message in (
        ("truth.csv", "3.jpg,zebra", r"truth\.csv, line 17: a second label for 3\.jpg; keep one\."),
        ("data/train.csv", "../data/train/0/0.jpg,2", r"0\.jpg: has label '0' and label '2'"),
    ):
        folder = Path(shutil.copytree(tiny, tmp_path / table.replace("/", "-")))
        with (folder / table).open("a") as file:
            file.write(f"{row}\n")
        with pytest.raises(ValueError, match=message):
            load_dataset(folder)


@pytest.mark.parametrize("prefix", ["../data/", "..\\data\\", ""])
def test_paths_start_from_a_folder_beside_the_data(tiny: Path, tmp_path: Path, prefix: str) -> None:
    shutil.copytree(tiny / "data", tmp_path / "data")
    table = tmp_path / "data/train.csv"
    text = table.read_text().replace("../data/", prefix)
    # As Excel writes it: with a byte order mark and other ends of lines.
    table.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    data = load_dataset(tmp_path / "data")
    assert data.train.ids.tolist()[:2] == ["train/0/0", "train/0/1"]


def test_shift_zero_takes_test_photographs_like_training_photographs() -> None:
    looks = {shift: {shot.look for shot in LotteConfig(2, shift=shift).shots()} for shift in (0, 1)}
    assert looks == {0: {STUDIO_LOOK}, 1: {STUDIO_LOOK, STREET_LOOK}}


def test_test_photographs_differ_more_the_larger_the_shift(tmp_path: Path) -> None:
    def distance(shift: float) -> float:
        """Return the mean distance of test photographs from the mean training photograph."""
        config = LotteConfig(2, 6, 12, image_size_px=32, shift=shift)
        folder = draw_dataset(tmp_path / str(shift), config, progress=False)
        train, test = (
            np.array(
                [np.asarray(Image.open(path), float) for path in (folder / name).rglob("*.jpg")]
            )
            for name in ("data/train", "data/test")
        )
        return float(np.abs(test - train.mean(axis=0)).mean())

    distances = [distance(shift) for shift in (0.0, 0.5, 1.0)]
    assert distances[0] + 10 < distances[1] < distances[2] - 5


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"shift": 1.5}, r"shift must be in 0\.\.1\. Received 1\.5\."),
        ({"shift": float("nan")}, r"shift must be in 0\.\.1\. Received nan\."),
        ({"test_per_class": 0}, r"test_per_class must be at least 1\. Received 0\."),
        ({"train_per_class": 4.0}, r"train_per_class must be a whole number\. Received 4\.0\."),
        ({"image_size_px": 31}, r"image_size_px must be in 32\.\.2048\. Received 31\."),
    ],
)
def test_config_refuses_impossible_sizes(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LotteConfig(**sizes)
