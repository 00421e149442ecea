from __future__ import annotations

import csv
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_io.datasets import load_dataset
from data_io.files.locks import in_turn
from delf_ext.nsml import commands, datasets, records, store
from delf_ext.nsml.challenge_tree import QUERY, REFERENCE, TRAIN, folder_names
from delf_ext.nsml.datasets import answers_of, draw, existing, listing, push, remove


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_images(root: Path, *names: str) -> Path:
    """Write images, each with another colour."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 8, 0, 255 - number)).save(root / name, "PNG")
    return root


def challenge(root: Path, labels: str | None = "query_7,milk\nrefer_1,milk\nrefer_x,tea\n") -> Path:
    names = [f"{TRAIN}/{name}" for name in ("milk/a.jpg", "milk/b.png", "oat milk/a.jpg")]
    make_images(
        root, *names, f"{QUERY}/query_7.jpg", f"{REFERENCE}/refer_1.png", f"{REFERENCE}/refer_x.jpg"
    )
    if labels is not None:
        (root / "test" / "test_labels.csv").write_text(f"id,label\n{labels}")
    (root / "geometry.csv").write_text("id,label\nquery_7,milk\n")
    return root


def split_folders(root: Path) -> Path:
    names = [
        f"{split}/{name}/{i}.png"
        for split in ("train", "query", "gallery")
        for name in ("a/b", "c")
        for i in range(4)
    ]
    return make_images(root, *names)


def files_below(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


# --- the folder that sessions see


def test_push_keeps_the_names_of_a_challenge_tree_but_not_its_labels(
    tmp_path: Path, home: Path
) -> None:
    source = challenge(tmp_path / "source")
    pushed = push("round", source)
    assert pushed.num_train == 3
    assert pushed.num_classes == 2
    assert pushed.num_queries == 1
    assert pushed.num_references == 2
    assert pushed.skipped == () and pushed.notes == ()
    folder = home / "datasets" / "round"
    assert files_below(folder) == [
        name for name in files_below(source) if not name.endswith(".csv")
    ]
    assert all(
        (folder / name).read_bytes() == (source / name).read_bytes() for name in files_below(folder)
    )
    assert answers_of("round") == {"query_7": "milk", "refer_1": "milk", "refer_x": "tea"}


def test_answers_are_private_and_outside_the_data_set(tmp_path: Path, home: Path) -> None:
    push("round", challenge(tmp_path / "source"))
    answers = store.answers_file("round")
    assert home / "datasets" not in answers.parents
    assert stat.S_IMODE(answers.stat().st_mode) == 0o600
    assert stat.S_IMODE(answers.parent.stat().st_mode) == 0o700
    data = load_dataset(home / "datasets" / "round")
    assert data.query.labels is None
    assert data.gallery.labels is None
    assert data.train.labels is not None


def test_numbers_and_file_times_do_not_reveal_the_class(tmp_path: Path, home: Path) -> None:
    source = split_folders(tmp_path / "source")
    push("own", source)
    folder = home / "datasets" / "own"
    assert files_below(folder) == sorted(
        [f"{TRAIN}/{name}/{name}_{i}.png" for name in ("a_b", "c") for i in range(4)]
        + [
            f"{place}_{i}.png"
            for place in (f"{QUERY}/query", f"{REFERENCE}/refer")
            for i in range(8)
        ]
    )
    labels = answers_of("own")
    of_query = [labels[f"query_{i}"] for i in range(8)]
    assert of_query != sorted(of_query) and sorted(of_query) == ["a_b"] * 4 + ["c"] * 4
    class_of = {
        path.read_bytes(): path.parent.relative_to(source / "query").as_posix()
        for path in source.glob("query/**/*.png")
    }
    for i, label in enumerate(of_query):
        assert folder_names([class_of[(folder / QUERY / f"query_{i}.png").read_bytes()]]) == [label]
    written = [(folder / QUERY / f"query_{i}.png").stat().st_mtime_ns for i in range(8)]
    # The files are written in the order of their numbers, so the times do not reveal the class.
    assert written == sorted(written)


def test_push_is_deterministic(tmp_path: Path, home: Path) -> None:
    source = split_folders(tmp_path / "source")
    push("one", source)
    push("two", source)
    assert answers_of("one") == answers_of("two")


def test_push_makes_class_names_of_a_csv_valid_folder_names(tmp_path: Path, home: Path) -> None:
    make_images(tmp_path, "x/1.png", "y/1.png", "q.png", "r.png")
    rows = [
        ("x/1.png", "../../evil", "train"),
        ("y/1.png", "../../evil", "train"),
        ("q.png", "김치/맵다", "query"),
    ]
    with open(tmp_path / "list.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label", "split"), *rows, ("r.png", "김치/맵다", "gallery")]
        )
    push("wild", tmp_path / "list.csv")
    assert files_below(home / "datasets") == [
        "wild/test/test_data/query/query_0.png",
        "wild/test/test_data/reference/refer_0.png",
        "wild/train/train_data/_.._evil/_.._evil_0.png",
        "wild/train/train_data/_.._evil/_.._evil_1.png",
    ]
    assert answers_of("wild") == {"query_0": "김치_맵다", "refer_0": "김치_맵다"}


# --- skipped files and notes


def test_push_skips_unreadable_files_with_the_reason(tmp_path: Path) -> None:
    source = challenge(tmp_path / "source")
    (source / TRAIN / "milk" / "a.jpg").write_bytes(b"no image")
    (source / QUERY / "query_8.jpg").touch()
    pushed = push("round", source)
    assert [(Path(path).name, reason.split(",")[0]) for path, reason in pushed.skipped] == [
        ("a.jpg", "not an image"),
        ("query_8.jpg", "empty file"),
    ]
    assert pushed.num_train == 2 and listing()[0].num_train == 2


def test_push_keeps_images_without_a_label(tmp_path: Path) -> None:
    images = make_images(tmp_path / "source", *(f"{name}.png" for name in "abcdefg"))
    rows = ["a.png,x,train", "b.png,,train", "c.png,x,query", "d.png,,query"]
    rows += ["e.png,x,gallery", "f.png,,gallery", "g.png,y,gallery"]
    (images / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    pushed = push("own", images / "list.csv")
    assert (pushed.num_train, pushed.num_queries, pushed.num_references) == (1, 2, 3)
    assert sorted(answers_of("own").values()) == ["", "", "x", "x", "y"]
    assert pushed.notes == (
        "1 training images have no label: left out",
        "1 of 2 queries have no label: they are not scored",
        "1 of 3 gallery images have no label: they stay in the rankings and are never right",
    )


def test_push_refuses_or_joins_labels_that_are_written_in_two_ways(tmp_path: Path) -> None:
    source = make_images(tmp_path / "source", "Milk/a.png", "milk/b.png", "tea/c.png")
    with pytest.raises(ValueError, match="how they are written .1.: 'Milk'"):
        push("own", source)
    assert push("own", source, merge_labels=True).num_classes == 2


def test_push_notes_missing_test_labels(tmp_path: Path) -> None:
    pushed = push("round", challenge(tmp_path / "source", labels=None))
    assert pushed.notes == (
        "no labels of the test images: submissions are checked and timed, but not scored",
    )
    assert answers_of("round") == {} and not listing()[0].has_answers


def test_push_notes_missing_queries(tmp_path: Path) -> None:
    pushed = push("own", make_images(tmp_path / "source", "a/1.png", "b/1.png"))
    assert pushed.notes == ("no queries or no references: sessions can train, but not submit",)
    assert existing("own").joinpath(QUERY).is_dir()


def test_push_counts_images_in_two_lists(tmp_path: Path) -> None:
    make_images(tmp_path, "1.png", "2.png", "3.png")
    rows = ["1.png,a,train", "2.png,a,train", "1.png,a,gallery", "3.png,a,gallery", "3.png,a,query"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    assert push("own", tmp_path / "list.csv").notes == (
        "1 of 2 references are also training images",
        "1 of 1 queries are also references",
    )


def test_push_notes_that_the_gallery_of_grocery_is_its_training_list(tmp_path: Path) -> None:
    make_images(tmp_path, "train/A/1.png", "train/B/1.png", "val/A/1.png")
    (tmp_path / "train.txt").write_text("train/A/1.png, 0, 0\ntrain/B/1.png, 1, 0\n")
    (tmp_path / "val.txt").write_text("val/A/1.png, 0, 0\n")
    (tmp_path / "classes.csv").write_text("Class Name (str),Class ID (int)\nA,0\nB,1\n")
    pushed = push("grocery", tmp_path)
    assert (pushed.num_train, pushed.num_queries, pushed.num_references) == (2, 1, 2)
    assert pushed.notes == ("2 of 2 references are also training images",)


# --- drawn products


def test_drawn_data_set_has_the_size_of_round_1_by_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[Any] = []

    def small(out: Path, num_classes: int, seed: int) -> Path:
        sizes.append((num_classes, seed))
        return challenge(out)

    monkeypatch.setattr(datasets, "draw_products", small)
    commands.dataset_push("ir_ph1_v2", draw=True)
    assert sizes == [(1000, 0)]
    assert [path.name for path in (home / "datasets").iterdir()] == ["ir_ph1_v2"]


def test_draw_leaves_no_copy_of_the_labels(home: Path) -> None:
    drawn = draw("small", num_classes=6, seed=3)
    assert drawn.num_train == 43
    assert drawn.num_classes == 6
    assert drawn.num_queries == 1
    assert drawn.num_references == 7
    assert sorted(answers_of("small")) == sorted(["query_0", *(f"refer_{i}" for i in range(7))])
    assert [path.relative_to(home).as_posix() for path in home.rglob("*.csv")] == [
        "answers/small.csv"
    ]


# --- the store


def test_listing_counts_images_and_remove_deletes_answers(tmp_path: Path, home: Path) -> None:
    source = challenge(tmp_path / "source")
    push("b", source)
    push("a", source)
    assert [
        (data.name, data.num_train, data.num_classes, data.has_answers) for data in listing()
    ] == [
        ("a", 3, 2, True),
        ("b", 3, 2, True),
    ]
    remove("a")
    assert files_below(home / "answers") == ["b.csv"]
    assert [data.name for data in listing()] == ["b"]
    with pytest.raises(
        ValueError,
        match=r"no data set a \(known: b\)\. Create it with `nsml dataset push a PATH` or",
    ):
        remove("a")


def test_existing_data_set_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    push("own", challenge(tmp_path / "source"))
    with pytest.raises(ValueError, match="data set own exists: pass --overwrite to replace it"):
        push("own", split_folders(tmp_path / "other"))
    with pytest.raises(ValueError, match="data set own exists"):
        draw("own", num_classes=6)
    push("own", split_folders(tmp_path / "other"), overwrite=True)
    assert listing()[0].num_train == 8 and len(answers_of("own")) == 16


def test_second_of_two_pushes_at_once_fails(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = datasets._copy
    first = challenge(tmp_path / "first")
    second = challenge(tmp_path / "second", "query_7,tea\nrefer_1,tea\nrefer_x,tea\n")

    def copy_after_another_push(sources: dict[str, str], folder: Path) -> None:
        monkeypatch.setattr(datasets, "_copy", copy)
        push("round", first)
        copy(sources, folder)

    monkeypatch.setattr(datasets, "_copy", copy_after_another_push)
    with pytest.raises(ValueError, match="data set round exists"):
        push("round", second)
    assert answers_of("round")["query_7"] == "milk" and os.listdir(home / "datasets") == ["round"]


def test_data_set_in_use_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    source = challenge(tmp_path / "source")
    push("own", source)
    session = records.create(records.Session("", "own", "main.py", ()))
    with in_turn(store.session_folder(session.name) / records.RUNNING_LOCK):
        # The supervisor of a running session holds this lock.
        for forbidden in (lambda: push("own", source, overwrite=True), lambda: remove("own")):
            with pytest.raises(
                ValueError,
                match=f"data set own is used by {session.name}: stop the session first",
            ):
                forbidden()
    remove("own")


@pytest.mark.parametrize("full_at", ["copy", "answers"])
def test_full_disk_keeps_the_old_data_set(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    push("own", challenge(tmp_path / "source"))
    before = {name: (home / name).read_bytes() for name in files_below(home)}

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full_at == "copy":
        copied: list[Any] = []
        usual = shutil.copyfile
        monkeypatch.setattr(
            shutil,
            "copyfile",
            lambda *files: copied.append(usual(*files)) if len(copied) < 3 else fails(),
        )
    else:
        monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(
        ValueError,
        match=r"cannot write \S+own \(No space left on device\); nothing was changed\. Free",
    ):
        push("own", split_folders(tmp_path / "other"), overwrite=True)
    assert {name: (home / name).read_bytes() for name in files_below(home)} == before


def test_push_refuses_invalid_names_and_missing_sources(tmp_path: Path, home: Path) -> None:
    with pytest.raises(ValueError, match=r"data set '\.\./x': use at most 100 letters, digits"):
        push("../x", tmp_path)
    with pytest.raises(ValueError, match="nowhere: not found"):
        push("own", tmp_path / "nowhere")
    assert not home.exists()


@pytest.mark.shared
def test_push_of_the_grocery_store_data_set(shared: Path) -> None:
    pushed = push("grocery", shared / "data" / "grocery")
    assert pushed.num_train == 2640
    assert pushed.num_classes == 81
    assert pushed.num_queries == 296
    assert pushed.num_references == 2640
    assert pushed.notes == ("2640 of 2640 references are also training images",)
    assert len(answers_of("grocery")) == 2936
