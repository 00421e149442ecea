from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import ACCEPTED_FORMS, DataSet, list_images, load_dataset
from data_io.files.marks import mark_beside, mark_folder
from data_io.records import NO_LABEL, ImageList
from data_io.tables.csv_columns import OTHER_NAMES


def touch(root: Path, *names: str) -> None:
    """Create empty files; listing does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def label_names(data: DataSet, images: ImageList) -> list[str]:
    return [data.class_names[label] for label in images.labels]


def short(skipped: tuple[tuple[str, str], ...], root: Path) -> list[tuple[str, str]]:
    """Return the skipped files with paths relative to `root`."""
    start = f"{root}/"
    return [(path.replace(start, ""), reason.replace(start, "")) for path, reason in skipped]


# --- one folder per class


def test_class_folders_are_sorted_in_natural_order(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "10/b.jpg",
        "10/a.JPG",
        "9/z.png",
        "9/._z.png",
        "9/notes.txt",
        ".cache/x.jpg",
        "__MACOSX/9/._z.png",
        "100/q.tiff",
    )
    data = load_dataset(tmp_path)
    assert data.class_names == ("9", "10", "100")
    assert data.name == tmp_path.name
    assert data.train.ids.tolist() == ["9/z", "10/a", "10/b", "100/q"]
    assert data.train.paths.tolist() == [
        str(tmp_path / name) for name in ("9/z.png", "10/a.JPG", "10/b.jpg", "100/q.tiff")
    ]
    assert data.train.labels.tolist() == [0, 1, 1, 2]
    assert len(data.query) == len(data.gallery) == 0
    assert data.skipped == ()
    assert data.query.labels.dtype == np.int64
    assert data.train.groups is None


def test_class_names_sort_numbers_by_value(tmp_path: Path) -> None:
    touch(tmp_path, "milk-10/a.jpg", "milk-9/a.jpg", "Arla/a.jpg", "7/a.jpg", "012/a.jpg")
    assert load_dataset(tmp_path).class_names == ("7", "012", "Arla", "milk-9", "milk-10")


def test_nested_folders_are_classes(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Packages/Milk/Arla/1.jpg",
        "Packages/Milk/Oatly/1.jpg",
        "Fruit/Apple/1.jpg",
        "Fruit/2.jpg",
    )
    data = load_dataset(tmp_path)
    assert data.class_names == ("Fruit", "Fruit/Apple", "Packages/Milk/Arla", "Packages/Milk/Oatly")
    assert data.train.ids.tolist() == [
        "Fruit/2",
        "Fruit/Apple/1",
        "Packages/Milk/Arla/1",
        "Packages/Milk/Oatly/1",
    ]


def test_class_folders_list_skipped_files_with_reasons(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "cat/1.jpg",
        "cat/1.png",
        "empty/readme.txt",
        "stray.jpg",
        "dog/2.v1.jpg",
        "dog/2.v2.jpg",
    )
    data = load_dataset(tmp_path)
    # Two files of one stem are two images: only their ids keep the endings.
    assert data.train.ids.tolist() == ["cat/1.jpg", "cat/1.png", "dog/2.v1", "dog/2.v2"]
    assert data.class_names == ("cat", "dog")
    assert sorted(short(data.skipped, tmp_path)) == [
        ("empty/", "empty class"),
        ("stray.jpg", "not in the folder of a class"),
    ]


def test_split_folders_give_train_query_and_gallery(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/a/1.jpg",
        "train/b/1.jpg",
        "query/a/9.jpg",
        "gallery/c/1.jpg",
        "gallery/a/2.jpg",
        "gallery/d/x.txt",
    )
    data = load_dataset(tmp_path)
    assert data.class_names == ("a", "b", "c")
    assert data.train.ids.tolist() == ["train/a/1", "train/b/1"]
    assert data.query.ids.tolist() == ["query/a/9"]
    assert label_names(data, data.query) == ["a"]
    assert data.gallery.ids.tolist() == ["gallery/a/2", "gallery/c/1"]
    assert label_names(data, data.gallery) == ["a", "c"]
    assert short(data.skipped, tmp_path) == [("gallery/d/", "empty class")]


def test_without_a_gallery_folder_the_gallery_is_the_train_list(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/empty/x.txt", "query/a/2.jpg")
    data = load_dataset(tmp_path)
    assert data.gallery is data.train
    # The skipped folder is in both lists, but it is listed once.
    assert short(data.skipped, tmp_path) == [("train/empty/", "empty class")]


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    touch(root, "a/1.jpg", "z_real/1.jpg")
    touch(tmp_path, "elsewhere/5.jpg")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "far_up").symlink_to(tmp_path)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "c_link").symlink_to(root / "z_real")
    data = load_dataset(root)
    # A folder is listed by its own name rather than by a link to it.
    assert data.train.ids.tolist() == ["a/1", "b/5", "z_real/1"]
    read_already = "link to a folder that is read already"
    assert sorted(short(data.skipped, root)) == [
        ("a/far_up/", read_already),
        ("a/self", "cannot be read: Too many levels of symbolic links"),
        ("a/up/", read_already),
        ("c_link/", read_already),
    ]


def test_a_folder_named_like_an_image_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/odd.jpg/1.jpg", "a/2.jpg")
    assert load_dataset(tmp_path).class_names == ("a", "a/odd.jpg")


def test_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(
        tmp_path,
        *(f"{name}/{number}.jpg" for name in ("b", "a", "c/d", "c/e") for number in (3, 1, 2)),
        "e/x.txt",
        "f/x.txt",
    )
    first = load_dataset(tmp_path)

    class ReversedEntries:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", ReversedEntries)
    second = load_dataset(tmp_path)
    assert first.train.ids.tolist() == second.train.ids.tolist() == sorted(first.train.ids)
    assert first.skipped == second.skipped
    assert len(first.skipped) == 2


def test_an_unreadable_folder_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "locked/1.jpg")
    scandir = os.scandir

    def guarded(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    assert short(load_dataset(tmp_path).skipped, tmp_path) == [
        ("locked/", "cannot be read: Permission denied")
    ]


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    """Return the message, after a check that it is one line and ends with the accepted forms."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(ACCEPTED_FORMS)
    return text


def test_errors_name_the_accepted_forms(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path / "nowhere")
    assert "nowhere: not found." in one_line(error)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: neither a folder nor a regular file"):
        load_dataset(tmp_path / "pipe")
    (tmp_path / "pipe").unlink()
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path)
    assert f"{tmp_path}: no image found. Give" in one_line(error)
    touch(tmp_path, "notes.md")
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path / "notes.md")
    assert "notes.md: a file, but not a CSV." in one_line(error)
    touch(tmp_path, "one.jpg", "two.jpg")
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path)
    assert "2 photographs, but no folder per class, so they have no labels" in one_line(error)


# --- challenge tree


def test_challenge_tree_without_test_labels(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/train_data/10/1.jpg",
        "train/train_data/9/5.jpg",
        "train/train_data/9/4.jpg",
    )
    touch(tmp_path, "test/test_data/query/query_1.jpg", "test/test_data/query/query_0.jpg")
    touch(tmp_path, "test/test_data/reference/refer_1.jpg", "test/test_data/reference/refer_0.jpg")
    data = load_dataset(tmp_path)
    assert data.class_names == ("9", "10")
    assert data.train.ids.tolist() == ["9/4", "9/5", "10/1"]
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.query.ids.tolist() == ["query_0", "query_1"]
    assert data.query.labels is None
    assert data.gallery.ids.tolist() == ["refer_0", "refer_1"]
    assert data.gallery.labels is None


def test_challenge_tree_with_test_labels(tmp_path: Path) -> None:
    touch(tmp_path, "train/train_data/9/5.jpg")
    touch(tmp_path / "test/test_data/query", "q0.jpg", "q1.jpg", "q2.jpg")
    touch(tmp_path, "test/test_data/reference/r0.jpg")
    (tmp_path / "test" / "test_labels.csv").write_text("id,label\nq0,11\nq1,9\nr0,11\nr9,9\nq2,\n")
    data = load_dataset(tmp_path)
    assert data.class_names == ("9", "11")
    # Test images are sorted by name, not by class.
    assert data.query.ids.tolist() == ["q0", "q1", "q2"]
    assert data.query.labels.tolist() == [1, 0, NO_LABEL]
    assert label_names(data, data.gallery) == ["11"]
    assert data.skipped == ()
    assert data.notes == ("test_labels.csv: 1 of 5 names have no image, such as r9",)


def test_challenge_tree_refuses_a_wrong_label_file(tmp_path: Path) -> None:
    touch(tmp_path, "test/test_data/query/q0.jpg")
    labels = tmp_path / "test" / "test_labels.csv"
    labels.write_text("id,label\nq0,1\nq0,2\n")
    message = "test_labels.csv, line 3: a second label for q0; keep one"
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)
    labels.write_text("number,label\nq0,1\n")
    message = "no column id. The first line must name the columns; found number, label"
    with pytest.raises(ValueError, match=f"test_labels.csv: {message}"):
        load_dataset(tmp_path)


def test_challenge_tree_can_have_only_one_part(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a/train/train_data/1/1.jpg",
        "b/test/test_data/query/q.jpg",
        "b/test/test_data/reference/r.jpg",
    )
    train_only = load_dataset(tmp_path / "a")
    test_only = load_dataset(tmp_path / "b")
    assert (len(train_only.train), len(train_only.query), len(train_only.gallery)) == (1, 0, 0)
    assert (len(test_only.train), len(test_only.query), len(test_only.gallery)) == (0, 1, 1)
    assert test_only.class_names == ()


# --- Grocery Store tree

CLASSES = """\
Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)
Zebra-Milk,0,Milk,0
Apple,1,Fruit,1
"""
TRAIN_LIST = """\
train/M/Z/2.jpg, 0, 0
train/M/Z/1.jpg, 0, 0
train/F/A/1.jpg, 1, 1
train/F/A/gone.jpg, 1, 1
"""


def grocery_tree(folder: Path) -> Path:
    touch(
        folder,
        "train/M/Z/1.jpg",
        "train/M/Z/2.jpg",
        "train/F/A/1.jpg",
        "val/F/A/1.jpg",
        "test/M/Z/7.jpg",
    )
    (folder / "classes.csv").write_text(CLASSES)
    (folder / "train.txt").write_text(TRAIN_LIST)
    (folder / "val.txt").write_text("val/F/A/1.jpg, 1, 1\n\n")
    return folder


def test_grocery_tree_is_found_from_the_root_and_from_inside(tmp_path: Path) -> None:
    tree = grocery_tree(tmp_path / "store" / "dataset")
    for path in (tree, tree.parent):
        data = load_dataset(path)
        assert data.name == "store"
        # The class names are in the order of the class ids.
        assert data.class_names == ("Zebra-Milk", "Apple")
        assert data.train.ids.tolist() == ["train/M/Z/1", "train/M/Z/2", "train/F/A/1"]
        assert data.train.labels.tolist() == [0, 0, 1]
        assert data.gallery is data.train
        assert data.query.ids.tolist() == ["val/F/A/1"]
        assert data.query.labels.tolist() == [1]
        assert data.train.paths[0] == str(tree / "train/M/Z/1.jpg")
        assert short(data.skipped, tree) == [("train/F/A/gone.jpg", "file not found")]


def test_grocery_query_split_chooses_the_list_of_queries(tmp_path: Path) -> None:
    tree = grocery_tree(tmp_path)
    with pytest.raises(ValueError, match=r"test.txt: not found; this copy has train.txt, val.txt"):
        load_dataset(tree, query_split="test")
    (tree / "test.txt").write_text("test/M/Z/7.jpg, 0, 0\n")
    assert load_dataset(tree, query_split="test").query.ids.tolist() == ["test/M/Z/7"]
    with pytest.raises(ValueError, match="query_split must be val or test. Received 'tets'"):
        load_dataset(tree, query_split="tets")


@pytest.mark.parametrize(
    "line",
    [
        "train/M/Z/1.jpg, 2, 0",
        "train/M/Z/1.jpg, 0",
        "train/M/Z/1.jpg, zero, 0",
        "train/M/Z/1.jpg, -1, 0",
    ],
)
def test_grocery_tree_refuses_wrong_lists(tmp_path: Path, line: str) -> None:
    tree = grocery_tree(tmp_path)
    (tree / "train.txt").write_text(f"train/M/Z/2.jpg, 0, 0\n{line}\n")
    message = "train.txt, line 2: expected `path, class 0..1, coarse class`. Received '"
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(tree)
    assert line in str(error.value)


@pytest.mark.parametrize("row", ["Pear,3,Fruit,1", "Pear,1,Fruit,1", "Apple,2,Fruit,1"])
def test_grocery_tree_refuses_wrong_classes(tmp_path: Path, row: str) -> None:
    tree = grocery_tree(tmp_path)
    (tree / "classes.csv").write_text(f"{CLASSES}{row}\n")
    message = "classes.csv: class ids must run from 0 without a gap, and class names must differ"
    with pytest.raises(ValueError, match=message):
        load_dataset(tree)


@pytest.mark.shared
def test_the_real_grocery_store_data_set(shared: Path) -> None:
    root = shared / "data" / "grocery"
    if not root.is_dir():
        pytest.skip("no data/grocery in shared")
    data = load_dataset(root)
    assert (len(data.train), len(data.query), len(data.class_names)) == (2640, 296, 81)
    assert data.skipped == ()
    for images in (data.train, data.query):
        folders = [Path(path).parent.name for path in images.paths]
        assert label_names(data, images) == folders
        assert all(Path(path).is_file() for path in images.paths)
    assert load_dataset(root / "dataset").train.ids.tolist() == data.train.ids.tolist()


# --- CSV


def write_csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "products.csv").write_text(text, encoding=encoding)
    return folder / "products.csv"


def test_csv_in_any_column_order_with_bom_quotes_and_extra_columns(tmp_path: Path) -> None:
    touch(tmp_path, "i/a, b.jpg", "i/c.png", "i/d.jpg", "i/e.jpg")
    lines = [
        "split,colour,label, path ,group",
        'train,red,"milk, fat",i/c.png,shop 1',
        "",
        'query,,tea,"i/a, b.jpg",shop 2',
        "gallery,,tea, i/d.jpg ,",
        f"train,,만두,{tmp_path / 'i/e.jpg'},shop 1",
        "",
    ]
    data = load_dataset(write_csv(tmp_path, "\n".join(lines), "utf-8-sig"))
    assert data.name == "products"
    assert data.class_names == ("milk, fat", "tea", "만두")
    assert data.train.ids.tolist() == ["i/c", str(tmp_path / "i/e")]
    assert data.query.ids.tolist() == ["i/a, b"]
    assert data.gallery.ids.tolist() == ["i/d"]
    assert data.query.paths.tolist() == [str(tmp_path / "i/a, b.jpg")]
    lists = (data.train, data.query, data.gallery)
    groups = [["shop 1", "shop 1"], ["shop 2"], [""]]
    assert [images.groups.tolist() for images in lists] == groups
    assert [images.labels.tolist() for images in lists] == [[0, 2], [1], [1]]
    assert data.skipped == ()


def test_csv_lists_skipped_files_with_reasons(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "c.jpg")
    lines = [
        "path,label,split",
        "a.jpg,1,train",
        "gone.jpg,1,train",
        "b.jpg,,query",
        "./a.jpg,1,train",
        "a.png,1,train",
        ",1,train",
    ]
    data = load_dataset(write_csv(tmp_path, "\n".join([*lines, "c.jpg,2,query"])))
    assert data.train.ids.tolist() == ["a.jpg", "a.png"]
    assert data.class_names == ("1", "2")
    assert data.query.ids.tolist() == ["c", "b"]
    assert data.query.labels.tolist() == [1, NO_LABEL]
    assert data.train.groups is None
    assert short(data.skipped, tmp_path) == [
        ("gone.jpg", "file not found"),
        ("a.jpg", "line 5: already in line 2"),
        ("products.csv, line 7", "no path"),
    ]


def test_csv_can_have_an_image_in_train_and_gallery(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    data = load_dataset(write_csv(tmp_path, "path,label,split\na.jpg,x,train\na.jpg,x,gallery\n"))
    assert data.train.ids.tolist() == data.gallery.ids.tolist() == ["a"]
    assert data.query is data.gallery


def test_csv_without_gallery_rows_searches_the_train_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    data = load_dataset(write_csv(tmp_path, "path,label,split\na.jpg,x,train\nb.jpg,x,query\n"))
    assert data.gallery is data.train
    lines = ["path,label,split", "a.jpg,x,train", "b.jpg,x,query", "gone.jpg,x,gallery"]
    with pytest.raises(ValueError, match="none of the 1 gallery files exist"):
        load_dataset(write_csv(tmp_path, "\n".join(lines)))


NO_COLUMNS = "no column path, label, split. The first line must name the columns"
KNOWN = "Known names: " + "; ".join(
    " or ".join((name, *OTHER_NAMES[name])) for name in ("path", "label", "split")
)
KNOWN += "."
SPLITS = "must be train, query or gallery (or val, test beside them)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\na.jpg,1\n",
            "no column split. The first line must name the columns; found path, label. "
            "Known names: split or subset or set or partition.",
        ),
        ("a.jpg,1,train\n", f"{NO_COLUMNS}; found a.jpg, 1, train. {KNOWN}"),
        ("", f"{NO_COLUMNS}; found nothing. {KNOWN}"),
        (
            "path,label,split\n",
            "no line below the header. Add a line for each photograph.",
        ),
        (
            "path,label,split\na.jpg,1,train\nb.jpg,1,shop\n",
            f", line 3: column split {SPLITS}. Received 'shop'.",
        ),
        (
            "path,label,split\na.jpg,1,\n",
            f", line 2: column split {SPLITS}. Received nothing.",
        ),
        (
            "path,label,split\na.jpg,1\n",
            ", line 2: 2 cells for 3 columns; missing: split.",
        ),
        (
            "path,label,split\na.jpg,milk, fat,train\n",
            ", line 2: 4 cells for 3 columns; put a value with a comma in quotes.",
        ),
        (
            "path,label,split\na.jpg,1,train\nb.jpg,1,train\n./a.jpg,2,gallery\n",
            ": ./a.jpg has label '1' in line 2 and '2' in line 4; keep one.",
        ),
    ],
)
def test_csv_errors_name_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    path = write_csv(tmp_path, text)
    with pytest.raises(ValueError) as error:
        load_dataset(path)
    assert str(error.value) in (f"{path}{message}", f"{path}: {message}")


def test_csv_paths_are_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "data/images/a.jpg")
    write_csv(tmp_path / "data", "path,label,split\nimages/a.jpg,1,train\n")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("data/products.csv").train.paths.tolist() == ["data/images/a.jpg"]
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert load_dataset("moved/products.csv").train.ids.tolist() == ["images/a"]


# --- unlabelled images


def test_list_images_lists_a_folder_and_a_single_file(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "in/a.png", "in/deep/a.jpg", "b.png", ".hidden.jpg", "notes.txt")
    images = list_images(tmp_path)
    assert images.ids.tolist() == ["b.jpg", "b.png", "in/a", "in/deep/a"]
    assert images.labels is None
    hidden = (".hidden.jpg", "hidden: its name begins with a dot")
    assert short(images.skipped, tmp_path) == [hidden]
    single = list_images(tmp_path / "in" / "a.png")
    assert single.ids.tolist() == ["a"]
    assert single.paths.tolist() == [str(tmp_path / "in" / "a.png")]


def test_list_images_refuses_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: not found. Give an image, a folder of"):
        list_images(tmp_path / "nowhere")
    touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match=r"no image in it\.$"):
        list_images(tmp_path)
    (tmp_path / "1234").write_text("text")
    message = (
        r"no image in it \(1 left out; the first: .*1234: not an image, by its first bytes\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        list_images(tmp_path)


def test_results_beside_photographs_are_not_read_as_data(tmp_path: Path) -> None:
    for folder in ("cup", "out/delf"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    mark_folder(tmp_path / "out")
    (tmp_path / "cup" / "answer.json").write_text("[]")
    mark_beside(tmp_path / "cup" / "answer.json")
    data = load_dataset(tmp_path)
    assert data.class_names == ("cup",) and len(data.train) == 1 and data.skipped == ()
    assert list_images(tmp_path).ids.tolist() == ["cup/a"]
