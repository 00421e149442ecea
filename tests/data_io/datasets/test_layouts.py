"""Test that folder trees are read as their owners meant them, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.datasets import DataSet, list_images, listed_gallery, load_dataset
from data_io.datasets.layouts import AUTO, LAYOUTS, NAMES
from data_io.records import GroundTruth


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def classes(folder: str, *names: str) -> list[str]:
    """Return two photographs for each class in a folder."""
    return [f"{folder}/{name}/{number}.jpg" for name in names for number in (1, 2)]


def sizes(data: DataSet) -> tuple[int, int, int]:
    return len(data.train), len(data.query), len(data.gallery)


def choices(root: Path) -> list[str]:
    """Return the layouts that the error for a folder offers."""
    with pytest.raises(ValueError, match="can be read in more than one way") as error:
        load_dataset(root)
    assert "\n" not in str(error.value)
    return [name for name in NAMES if f"--data_layout={name} (" in str(error.value)]


# --- train, query and gallery under other names


@pytest.mark.parametrize(
    ("train", "query", "gallery"),
    [
        ("train", "query", "gallery"),
        ("Train", "Query", "Gallery"),
        ("training", "probe", "GALLERY"),
        ("train", "queries", "reference"),
        ("TRAIN", "query", "test"),
        ("train", "val", "gallery"),
        ("train ", "ｑｕｅｒｙ", "Gallery\u200b"),
        ("bounding_box_train", "query", "bounding_box_test"),
    ],
)
def test_parts_are_found_by_name(tmp_path: Path, train: str, query: str, gallery: str) -> None:
    tree(tmp_path, *classes(train, "a", "b"), f"{query}/a/1.jpg", *classes(gallery, "a", "b"))
    data = load_dataset(tmp_path)
    assert (data.class_names, sizes(data)) == (("a", "b"), (4, 1, 4))
    assert data.layout == "splits"
    assert data.read_as.endswith(": 2 classes, 4 training images, 1 query, 4 gallery images")
    assert data.query.ids.tolist() == [f"{query}/a/1"]


def test_without_queries_each_gallery_image_is_one(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train", "a"), *classes("gallery", "b", "c"))
    data = load_dataset(tmp_path)
    assert data.query is data.gallery
    assert sizes(data) == (2, 4, 4)
    assert data.read_as.endswith("4 gallery images, each a query against the others")


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train", "a"), *classes("Train", "b"), *classes("gallery", "a"))
    with pytest.raises(ValueError, match="Train and train are both named like the train images"):
        load_dataset(tmp_path)
    tree(tmp_path / "two", *classes("query", "a"), *classes("probe", "b"), *classes("gallery", "a"))
    with pytest.raises(ValueError, match="probe and query are both named like the query images"):
        load_dataset(tmp_path / "two")


def test_a_class_may_be_named_like_a_part(tmp_path: Path) -> None:
    tree(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg")
    assert load_dataset(tmp_path).class_names == ("bus", "car", "train")
    nested = tree(tmp_path / "n", *classes("train", "a"), *classes("gallery", "a"), "docs/1.jpg")
    assert choices(nested) == ["class_folders", "splits"]
    data = load_dataset(nested, layout="splits")
    assert data.skipped == ((str(nested / "docs/1.jpg"), "in docs, which is not read"),)
    assert "docs: not read" in data.notes


def test_photographs_without_a_class_are_distractors_or_reported(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train", "a"), "train/x.jpg", "query/a/1.jpg", *classes("gallery", "a"))
    tree(tmp_path, "gallery/y.jpg")
    data = load_dataset(tmp_path)
    assert sizes(data) == (2, 1, 3)
    assert data.gallery.labels.tolist() == [0, 0, -1]
    assert data.skipped == ((str(tmp_path / "train/x.jpg"), "not in the folder of a class"),)
    with pytest.raises(ValueError, match="train has photographs but no class folders"):
        load_dataset(tree(tmp_path / "flat", "train/1.jpg", "gallery/a/1.jpg"))


def test_queries_and_gallery_need_no_classes(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, "query/1.jpg", "gallery/1.jpg", "gallery/2.jpg"))
    assert (sizes(data), data.query.labels, data.gallery.labels) == ((0, 1, 2), None, None)


# --- val and test


def test_one_held_out_part_is_searched_where_its_classes_are(tmp_path: Path) -> None:
    shared = tree(tmp_path / "shared", *classes("train", "a", "b"), *classes("val", "a"))
    data = load_dataset(shared)
    assert (data.layout, sizes(data)) == ("val_in_train", (4, 2, 4))
    assert data.gallery is data.train
    apart = tree(tmp_path / "apart", *classes("train", "a", "b"), *classes("test", "c", "d"))
    data = load_dataset(apart)
    assert (data.layout, sizes(data)) == ("test_in_test", (4, 4, 4))
    assert data.query is data.gallery
    partly = tree(tmp_path / "partly", *classes("train", "a", "b"), *classes("test", "b", "c"))
    assert choices(partly) == ["test_in_train", "test_in_test"]


def test_val_and_test_ask_which_is_which(tmp_path: Path) -> None:
    tree(tmp_path, *classes("training", "a", "b"), *classes("val", "a"), *classes("test", "a"))
    names = ["val_in_train", "test_in_train", "val_in_test", "val_in_val", "test_in_test"]
    assert choices(tmp_path) == names
    found = {name: load_dataset(tmp_path, layout=name) for name in names}
    assert {name: sizes(data) for name, data in found.items()} == {
        "val_in_train": (4, 2, 4),
        "test_in_train": (4, 2, 4),
        "val_in_test": (4, 2, 2),
        "val_in_val": (4, 2, 2),
        "test_in_test": (4, 2, 2),
    }
    assert found["val_in_test"].query.ids.tolist() == ["val/a/1", "val/a/2"]
    assert found["val_in_test"].gallery.ids.tolist() == ["test/a/1", "test/a/2"]
    # What is not read is counted.
    assert len(found["val_in_train"].skipped) == 2


# --- class folders


def test_folders_in_class_folders_are_asked_about_if_their_names_repeat(tmp_path: Path) -> None:
    views = [f"{name}/{view}/1.jpg" for name in "ab" for view in ("front", "back")]
    assert choices(tree(tmp_path / "views", *views)) == ["class_folders", "top_folders"]
    data = load_dataset(tmp_path / "views", layout="top_folders")
    assert (data.class_names, len(data.train)) == (("a", "b"), 4)
    in_parts = [f"{part}/{name}" for part in ("query", "gallery") for name in views]
    names = choices(tree(tmp_path / "parts", *in_parts))
    assert names == ["splits", "splits_top_folders"]
    data = load_dataset(tmp_path / "parts", layout="splits_top_folders")
    assert (data.class_names, sizes(data)) == (("a", "b"), (0, 4, 4))


def test_oddities_of_class_folders_are_reported(tmp_path: Path) -> None:
    tree(tmp_path, "Fruit/1.jpg", "Fruit/Apple/1.jpg", "Milk/1.jpg", "none/x.txt", "loose.jpg")
    data = load_dataset(tmp_path)
    assert data.class_names == ("Fruit", "Fruit/Apple", "Milk")
    assert data.notes == (
        "1 photograph beside the class folders: no class",
        "1 class folder without a photograph: none",
        "1 class folder with photographs and with folders of photographs, which are classes too: "
        "Fruit",
    )
    hierarchy = tree(tmp_path / "h", "Packages/Milk/Arla/1.jpg", "Fruit/Apple/1.jpg")
    note = "folders in folders: a class is the whole path of a folder"
    assert load_dataset(hierarchy).notes == (note,)


def test_a_csv_file_beside_class_folders_is_asked_about(tmp_path: Path) -> None:
    tree(tmp_path, "img/a/1.jpg", "img/b/1.jpg")
    (tmp_path / "products.csv").write_text("path,label,split\nimg/a/1.jpg,x,train\n")
    assert choices(tmp_path) == ["csv", "class_folders"]
    assert load_dataset(tmp_path, layout="csv").class_names == ("x",)
    # A file with other columns is no list of images.
    (tmp_path / "products.csv").write_text("id,price\n1,2\n")
    assert load_dataset(tmp_path).layout == "class_folders"


def test_a_folder_around_a_known_layout_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path / "d" / "data", *classes("train", "a"), *classes("gallery", "a"))
    assert load_dataset(tmp_path / "d").layout == "splits"
    # Class folders keep the path that runs know.
    tree(tmp_path / "c" / "photos", "a/1.jpg", "b/1.jpg")
    assert load_dataset(tmp_path / "c").class_names == ("photos/a", "photos/b")


def test_what_is_beside_the_parts_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train", "a"), *classes("gallery", "a"), "query/x.txt", "loose.jpg")
    tree(tmp_path, "README.txt", "empty/x.txt")
    data = load_dataset(tmp_path)
    assert data.notes == (
        "query: no photographs",
        "1 photograph beside the folders gallery, train: not read",
    )
    assert data.skipped == ((str(tmp_path / "loose.jpg"), "beside the folders gallery, train"),)


def test_folders_around_the_class_folders_of_a_part_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train/train", "a"), *classes("test/images", "a", "b"))
    data = load_dataset(tmp_path, layout="test_in_train")
    assert data.class_names == ("a", "b")
    assert data.query.labels.tolist() == [0, 0, 1, 1]
    # A class can be the only one.
    other = tree(tmp_path / "o", "gallery/Fruit/Apple/1.jpg", "train/Milk/1.jpg")
    assert load_dataset(other).class_names == ("Fruit/Apple", "Milk")


def test_folders_of_data_sets_are_no_classes(tmp_path: Path) -> None:
    for kind in ("detected", "labeled"):
        tree(tmp_path, f"{kind}/bounding_box_train/0001_c1_1.png", f"{kind}/query/0003_c1_2.png")
    with pytest.raises(ValueError, match="looks like a whole data set: detected, labeled") as error:
        load_dataset(tmp_path)
    assert f"such as {tmp_path / 'detected'}" in str(error.value)
    assert load_dataset(tmp_path / "detected").layout == "market1501"
    assert len(load_dataset(tmp_path, layout="class_folders").class_names) == 4
    assert len(listed_gallery(tmp_path).images) == 4


def test_a_part_can_be_a_link(tmp_path: Path) -> None:
    tree(tmp_path / "store", *classes("g", "a", "b"))
    root = tree(tmp_path / "d", *classes("train", "c"))
    (root / "gallery").symlink_to(tmp_path / "store" / "g")
    (root / "query").symlink_to(root / "gallery")
    data = load_dataset(root)
    assert sizes(data) == (2, 4, 4)
    (tmp_path / "link").symlink_to(root)
    assert load_dataset(tmp_path / "link").train.ids.tolist() == data.train.ids.tolist()


def test_loops_of_links_end(tmp_path: Path) -> None:
    tree(tmp_path, *classes("train", "a"), "query/a/1.jpg", *classes("gallery", "a"))
    (tmp_path / "gallery" / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "gallery" / "b").symlink_to(tmp_path / "gallery")
    (tmp_path / "query" / "self").symlink_to(tmp_path / "query" / "self")
    assert sizes(load_dataset(tmp_path)) == (2, 1, 2)
    assert len(list_images(tmp_path)) == 5


# --- Market-1501 and kin


def market(root: Path) -> Path:
    return tree(
        root,
        "bounding_box_train/0007_c1s1_000001_01.jpg",
        "bounding_box_train/0007_c2s1_000001_01.jpg",
        "query/0002_c1s1_000451_03.jpg",
        "query/0003_c2s1_000451_03.jpg",
        "bounding_box_test/0002_c1s1_000400_01.jpg",
        "bounding_box_test/0002_c2s1_000500_01.jpg",
        "bounding_box_test/0003_c3s1_000500_01.jpg",
        "bounding_box_test/0000_c1s1_000001_01.jpg",
        "bounding_box_test/-1_c1s1_000002_01.jpg",
        "bounding_box_test/Thumbs.db",
        "gt_bbox/0002_c1s1_000400_00.jpg",
    )


def test_market_1501_names_give_identity_camera_junk_and_distractors(tmp_path: Path) -> None:
    data = load_dataset(market(tmp_path))
    assert data.layout == "market1501"
    assert data.class_names == ("0002", "0003", "0007")
    assert sizes(data) == (2, 2, 4)
    assert data.query.groups.tolist() == ["c1", "c2"]
    # The distractor comes last: it has no label.
    assert data.gallery.labels.tolist() == [0, 0, 1, -1]
    assert data.skipped == (
        (str(tmp_path / "bounding_box_test/-1_c1s1_000002_01.jpg"), "junk image: identity -1"),
    )
    assert data.notes[:3] == (
        "1 junk image (-1) left out",
        "1 distractor (0000) in the gallery",
        "not read: gt_bbox",
    )
    assert "identity and camera counts neither as right nor as wrong" in data.notes[3]


def test_market_1501_leaves_out_the_own_camera(tmp_path: Path) -> None:
    data = load_dataset(market(tmp_path))
    truth = GroundTruth.from_labels(data.query, data.gallery)
    assert [rows.tolist() for rows in truth.relevant] == [[1], [2]]
    assert [rows.tolist() for rows in truth.junk] == [[0], []]
    # A part of the queries keeps the rule.
    part = GroundTruth.from_labels(data.query.take([0]), data.gallery)
    assert part.junk[0].tolist() == [0]


@pytest.mark.parametrize(
    "names",
    [
        # DukeMTMC-reID, CUHK03-NP, VeRi-776, and plain names of the parts
        ("bounding_box_train/0001_c2_f0046182.jpg", "query/0005_c1_f1.jpg", "bounding_box_test"),
        ("bounding_box_train/0001_c1_1.png", "query/0003_c1_21.png", "bounding_box_test"),
        ("image_train/0001_c001_00016450_0.jpg", "image_query/0002_c002_1_0.jpg", "image_test"),
        ("train/0001_c1s1_1_0.jpg", "query/0002_c2s1_1_0.jpg", "test"),
    ],
)
def test_kin_of_market_1501(tmp_path: Path, names: tuple[str, str, str]) -> None:
    identity = Path(names[1]).name[:4]
    tree(tmp_path, *names[:2], f"{names[2]}/{identity}_c4_1.jpg", f"{names[2]}/9999_c5_1.jpg")
    data = load_dataset(tmp_path)
    assert (data.layout, sizes(data)) == ("market1501", (1, 1, 2))
    assert data.query.same_group_is_junk
    truth = GroundTruth.from_labels(data.query, data.gallery)
    assert [rows.tolist() for rows in truth.relevant] == [[0]]


def test_one_camera_does_not_remove_all_answers(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, "query/0002_c1_1.jpg", "gallery/0002_c1_2.jpg"))
    assert not data.query.same_group_is_junk
    assert data.notes == (
        "one camera only: photographs of the query's own camera count as answers",
    )


def test_a_folder_of_market_1501_alone(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, "0002_c1s1_1_0.jpg", "0002_c2s1_1_0.jpg", "-1_c1s1_1_1.jpg"))
    assert (data.layout, sizes(data), data.class_names) == ("market1501", (2, 0, 0), ("0002",))


def test_identity_zero_with_a_query_is_no_distractor(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, "query/0000_c1_1.jpg", "gallery/0000_c2_1.jpg"))
    assert data.class_names == ("0000",)


# --- other published data sets


def test_stanford_online_products(tmp_path: Path) -> None:
    tree(tmp_path, "bicycle_final/1_0.JPG", "bicycle_final/1_1.JPG", "chair_final/2_0.JPG")
    header = "image_id class_id super_class_id path\n"
    rows = "1 1 1 bicycle_final/1_0.JPG\n2 1 1 bicycle_final/1_1.JPG\n"
    (tmp_path / "Ebay_train.txt").write_text(f"{header}{rows}")
    rows = "3 2 2 chair_final/2_0.JPG\n4 2 2 chair_final/gone.JPG\n"
    (tmp_path / "Ebay_test.txt").write_text(f"{header}{rows}")
    data = load_dataset(tmp_path)
    assert (data.layout, sizes(data), data.class_names) == (
        "online_products",
        (2, 1, 1),
        ("1", "2"),
    )
    assert data.skipped == ((str(tmp_path / "chair_final/gone.JPG"), "file not found"),)
    (tmp_path / "Ebay_test.txt").write_text(f"{header}3 2 chair_final/2_0.JPG\n")
    with pytest.raises(ValueError, match=r"Ebay_test.txt, line 2: expected 4 values"):
        load_dataset(tmp_path)


def test_cub_trains_on_the_first_hundred_classes(tmp_path: Path) -> None:
    tree(tmp_path, "images/001.Auk/a.jpg", "images/101.Jay/b.jpg", "images/101.Jay/c.jpg")
    (tmp_path / "images.txt").write_text("1 001.Auk/a.jpg\n2 101.Jay/b.jpg\n3 101.Jay/c.jpg\n")
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 101\n3 101\n")
    (tmp_path / "classes.txt").write_text("1 001.Auk\n101 101.Jay\n")
    data = load_dataset(tmp_path)
    assert (data.layout, sizes(data)) == ("birds", (1, 2, 2))
    assert data.query is data.gallery
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 101\n")
    with pytest.raises(ValueError, match=r"no class of image 3 \(101.Jay/c.jpg\)"):
        load_dataset(tmp_path)


def test_in_shop_clothes(tmp_path: Path) -> None:
    names = [f"img/WOMEN/Dresses/id_0000000{number}/01_1_front.jpg" for number in (1, 2, 2)]
    names[2] = names[2].replace("front", "side")
    tree(tmp_path / "Img", *names)
    lines = [
        "3",
        "image_name item_id evaluation_status",
        f"{names[0]}   id_00000001   train",
        f"{names[1]}   id_00000002   query",
        f"{names[2]}   id_00000002   gallery",
    ]
    tree(tmp_path, "Eval/list_eval_partition.txt").joinpath(
        "Eval/list_eval_partition.txt"
    ).write_text("\n".join(lines))
    data = load_dataset(tmp_path)
    assert (data.layout, sizes(data)) == ("in_shop", (1, 1, 1))
    assert data.class_names == ("id_00000001", "id_00000002")


# --- work without labels


def test_search_takes_the_gallery_that_the_data_name(tmp_path: Path) -> None:
    found = listed_gallery(market(tmp_path / "m"))
    assert len(found.images) == 4
    assert found.read_as.startswith("Market-1501 tree")
    plain = tree(tmp_path / "p", "a/1.jpg", "b/1.jpg", "loose.jpg")
    assert listed_gallery(plain).images.ids.tolist() == ["a/1", "b/1", "loose"]
    # A tree that can be read in two ways holds the same photographs in both.
    views = tree(tmp_path / "v", "a/x/1.jpg", "a/y/1.jpg", "b/x/1.jpg", "b/y/1.jpg")
    assert len(listed_gallery(views).images) == 4


def test_a_csv_file_lists_photographs(tmp_path: Path) -> None:
    tree(tmp_path, "1.jpg", "1.png", "2.jpg", "3.jpg")
    lines = ["path,label,split", "1.jpg,a,train", "1.png,A,gallery", "2.jpg,a,query"]
    (tmp_path / "p.csv").write_text("\n".join([*lines, "2.jpg,a,gallery"]))
    assert list_images(tmp_path / "p.csv").ids.tolist() == ["1.jpg", "1.png", "2"]
    assert listed_gallery(tmp_path / "p.csv").images.ids.tolist() == ["1", "2"]


def test_names_of_layouts(tmp_path: Path) -> None:
    assert (AUTO, *(layout.name for layout in LAYOUTS)) == NAMES
    assert len(set(NAMES)) == len(NAMES)
    tree(tmp_path, "a/1.jpg")
    with pytest.raises(ValueError, match="data layout must be one of auto, grocery"):
        load_dataset(tmp_path, layout="unknown")
    (tmp_path / "x.csv").write_text("path,label,split\na/1.jpg,a,train\n")
    with pytest.raises(ValueError, match="a file cannot have the layout splits"):
        load_dataset(tmp_path / "x.csv", layout="splits")


@pytest.mark.parametrize("layout", [name for name in NAMES if name not in (AUTO, "photographs")])
def test_a_layout_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    tree(tmp_path, "1.jpg")
    with pytest.raises(ValueError) as error:
        load_dataset(tmp_path, layout=layout)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_classes_do_not_depend_on_how_the_folder_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "d", "a/1.jpg", "a b/c/1.jpg", "x/1.jpg")
    monkeypatch.chdir(tmp_path / "d")
    spellings = (".", "./", "../d", str(tmp_path / "d"), f"{tmp_path}//d/")
    assert {load_dataset(path).class_names for path in spellings} == {("a", "a b/c", "x")}
