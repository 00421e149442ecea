"""Test the choice of queries and gallery, above all that no trained class is among them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import DataSet, load_dataset
from data_io.files.contents import contents_of
from data_io.images import check_images
from data_io.photographs import Photographs, digests_of
from data_io.records import ImageList
from delf_ext.app.data import split
from delf_ext.app.evaluation_lists import evaluation_lists
from delf_ext.app.trained_on import TrainedPhotographs, require_untrained, trained_queries
from delf_ext.features.embedder import Embedder, Ensemble, HeldBack
from delf_ext.recipes import schema

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")
BLOCK = schema.ClassBlock(share=0.25)
RANDOM = schema.RandomClasses(share=0.25)
FOLDS = schema.StratifiedFolds(folds=4, fold=1)
SEED = 2


def write_class(folder: Path, colour: int, num_images: int = 4) -> None:
    folder.mkdir(parents=True)
    for number in range(num_images):
        Image.new("RGB", (8, 8), (colour, 10 * number, 0)).save(folder / f"{number}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of eight classes with four photographs each; those of c are broken."""
    for colour, name in enumerate(NAMES):
        write_class(tmp_path / "photos" / name, colour)
    for path in (tmp_path / "photos" / "c").iterdir():
        path.write_bytes(b"")
    return tmp_path / "photos"


def training_of(
    data: DataSet, validation: schema.Validation, max_images: int = 0, seed: int = SEED
) -> HeldBack:
    """Return what a run that is trained on the data writes down about it."""
    images = data.train.take(np.arange(max_images or len(data.train)))
    parts = split(check_images(images), data, validation, seed)
    trained = digests_of(parts.train, data.class_names)
    held_out = digests_of(parts.held_back, data.class_names)
    photographs = Photographs(trained, held_out)
    return HeldBack(validation, seed, parts.held_out, tuple(trained), photographs, max_images)


def contents(images: ImageList) -> list[str]:
    return contents_of(images.paths.tolist())


def class_names_of(data: DataSet, *lists: ImageList) -> set[str]:
    return {data.class_names[label] for images in lists for label in images.labels}


# --- nothing has changed


@pytest.mark.parametrize("validation", [BLOCK, RANDOM, FOLDS])
@pytest.mark.parametrize("max_images", [0, 24])
@pytest.mark.parametrize("kind", ["photographs", "names", "nothing"])
def test_the_lists_are_those_of_training(
    photos: Path, validation: schema.Validation, max_images: int, kind: str
) -> None:
    """A class of bad files and a limit on the images must not move a class into the dev split."""
    data = load_dataset(photos)
    training = training_of(data, validation, max_images)
    images = data.train.take(np.arange(max_images or len(data.train)))
    expected = split(check_images(images), data, validation, SEED)
    recorded = {
        "photographs": training,
        "names": dataclasses.replace(training, photographs=None),
        "nothing": dataclasses.replace(training, photographs=None, names=()),
    }
    query, gallery, description = evaluation_lists(data, recorded[kind])
    assert query.ids.tolist() == expected.query.ids.tolist()
    if validation is not FOLDS or kind != "names":
        assert gallery.ids.tolist() == expected.gallery.ids.tolist()
    assert description == expected.description
    if validation is not FOLDS:
        assert not class_names_of(data, query, gallery) & set(training.classes)


# --- the data have changed since


def rename(photos: Path, *pairs: tuple[str, str]) -> None:
    for old, _ in pairs:
        (photos / old).rename(photos / f"{old}.moved")
    for old, new in pairs:
        (photos / f"{old}.moved").rename(photos / new)


CHANGES: dict[str, Callable[[Path, str, str], None]] = {
    "grown": lambda photos, held, trained: [write_class(photos / n, 100 + ord(n)) for n in "0z"],
    "a held-out class renamed": lambda photos, held, trained: rename(photos, (held, "0new")),
    "a trained class renamed": lambda photos, held, trained: rename(photos, (trained, "zz")),
    "names swapped": lambda photos, held, trained: rename(photos, (held, trained), (trained, held)),
    "files renamed": lambda photos, held, trained: [
        path.rename(path.with_name(f"x{9 - int(path.stem)}.png"))
        for path in sorted((photos / held).iterdir())
    ],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("validation", [BLOCK, RANDOM])
def test_the_same_photographs_are_measured_after_a_change(
    photos: Path, validation: schema.Validation, change: str
) -> None:
    data = load_dataset(photos)
    training = training_of(data, validation)
    query, gallery, description = evaluation_lists(data, training)
    before = [contents(query), contents(gallery)]
    CHANGES[change](photos, training.names[0], training.classes[0])
    query, gallery, description_now = evaluation_lists(load_dataset(photos), training)
    assert [contents(query), contents(gallery)] == before
    assert description_now == description


def test_photographs_that_were_added_to_a_held_out_class_are_measured_too(photos: Path) -> None:
    data = load_dataset(photos)
    training = training_of(data, BLOCK)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(photos / training.names[0] / "new.png")
    query, gallery, _ = evaluation_lists(load_dataset(photos), training)
    assert len(query) + len(gallery) == 9


def test_a_trained_class_under_the_name_of_a_held_out_one_is_refused(photos: Path) -> None:
    training = training_of(load_dataset(photos), BLOCK)
    held, trained = training.names[0], training.classes[0]
    shutil.rmtree(photos / held)
    (photos / trained).rename(photos / held)
    message = f"^class {held} of the data was trained on: 4 of its photographs are training images"
    with pytest.raises(ValueError, match=message):
        evaluation_lists(load_dataset(photos), training)


def test_a_trained_class_in_the_split_of_a_run_without_names_is_refused(photos: Path) -> None:
    training = dataclasses.replace(
        training_of(load_dataset(photos), BLOCK, max_images=12), photographs=None, names=()
    )
    changed = dataclasses.replace(training, max_images=0)
    with pytest.raises(ValueError, match=r"drawing them again gives .*, which it was trained on"):
        evaluation_lists(load_dataset(photos), dataclasses.replace(changed, classes=NAMES))


def test_other_data_are_searched_all_in_all(photos: Path, tmp_path: Path) -> None:
    training = training_of(load_dataset(photos), BLOCK)
    for colour, name in enumerate("pq"):
        write_class(tmp_path / "other" / name, 200 + colour)
    other = load_dataset(tmp_path / "other")
    query, gallery, description = evaluation_lists(other, training)
    assert query is gallery is other.train
    assert description.startswith("no held-out class of the run is in the data: each image is")
    without_photographs = dataclasses.replace(training, photographs=None)
    assert evaluation_lists(other, without_photographs)[0] is other.train
    rename(tmp_path / "other", ("p", training.classes[0]))
    message = f"none of the classes that the run held out.*class {training.classes[0]}, which it"
    with pytest.raises(ValueError, match=message):
        evaluation_lists(load_dataset(tmp_path / "other"), without_photographs)


# --- the data have their own queries, or the run held nothing back


def test_the_lists_of_the_data_come_first(photos: Path) -> None:
    data = load_dataset(photos)
    data = dataclasses.replace(data, query=data.train.take([0]), gallery=data.train)
    query, gallery, description = evaluation_lists(data, HeldBack(BLOCK))
    assert query is data.query and gallery is data.gallery
    assert description == "queries and gallery of the data"
    no_images = data.train.take([])
    for missing in ("query", "gallery"):
        message = f"the data has no {missing} images. Add them, or pass class folders only."
        with pytest.raises(ValueError, match=message):
            evaluation_lists(dataclasses.replace(data, **{missing: no_images}), HeldBack(BLOCK))


@pytest.mark.parametrize("validation", [None, schema.Given()])
def test_without_a_split_each_image_is_searched_in_all_others(
    photos: Path, validation: schema.Validation | None
) -> None:
    data = load_dataset(photos)
    query, gallery, description = evaluation_lists(data, HeldBack(validation))
    assert query is gallery is data.train
    assert description == "no queries: each image is searched in all the others"


@pytest.mark.parametrize("kind", ["photographs", "nothing"])
def test_held_out_classes_of_one_image_each_are_refused(tmp_path: Path, kind: str) -> None:
    for colour, name in enumerate("abcd"):
        write_class(tmp_path / "single" / name, colour, num_images=1)
    data = load_dataset(tmp_path / "single")
    training = training_of(data, schema.ClassBlock(share=0.5))
    if kind == "nothing":
        training = dataclasses.replace(training, photographs=None, names=())
    message = "single: no held-out class has two images, so there is nothing to find. Pass data"
    with pytest.raises(ValueError, match=message):
        evaluation_lists(data, training)


# --- queries that were trained on


def model_of(*trainings: HeldBack) -> Embedder | Ensemble:
    members = [Embedder("m", 8, "d", lambda images: images, held_back=t) for t in trainings]
    return (
        members[0] if len(members) == 1 else Ensemble("both", tuple(members), schema.Concatenate())
    )


def test_query_photographs_that_were_trained_on_are_refused(photos: Path) -> None:
    data = load_dataset(photos)
    training = training_of(data, BLOCK)
    trained = np.flatnonzero(
        np.isin(np.array(data.class_names)[data.train.labels], training.classes)
    )
    fresh = photos.parent / "fresh.png"
    Image.new("RGB", (8, 8), (250, 0, 0)).save(fresh)
    copy = photos.parent / "copy.png"
    shutil.copyfile(data.train.paths[trained[0]], copy)
    label = int(data.train.labels[trained[0]])
    query = ImageList(["fresh", "copy"], [str(fresh), str(copy)], [label, label])
    other = HeldBack(None, 0, (), ("x",), Photographs({"x": ("00",)}))
    for model in (model_of(training), model_of(other, training)):
        found = trained_queries(model, query, data.class_names)
        name = data.class_names[label]
        assert found.photographs == ((str(copy), name),)
        assert (found.num_queries, found.num_classes, found.num_trained_classes) == (2, 1, 1)
        with pytest.raises(TrainedPhotographs, match=f"1 of 2 query photographs .*as class {name}"):
            require_untrained(model, found, allowed=False)
        require_untrained(model, found, allowed=True)
        assert next(found.notes()).startswith("1 of 2 query photographs were trained on (--allow")
        assert found.figures()["trained_photographs"] == [[str(copy), name]]
    held_out = evaluation_lists(data, training)[0]
    assert not trained_queries(model_of(training), held_out, data.class_names).photographs


def test_an_earlier_run_says_what_is_unknown(photos: Path) -> None:
    data = load_dataset(photos)
    old = dataclasses.replace(training_of(data, BLOCK), photographs=None)
    found = trained_queries(model_of(old), data.train, data.class_names)
    assert not found.is_known and not found.photographs
    assert "unknown whether queries are among them" in next(found.notes())
    untrained = trained_queries(model_of(HeldBack()), data.train, data.class_names)
    assert untrained.is_known and not list(untrained.notes())


def test_trained_classes_are_known_in_other_spellings(photos: Path) -> None:
    data = load_dataset(photos)
    old = dataclasses.replace(training_of(data, BLOCK), photographs=None)
    renamed = tuple(f"{name.upper()}\u200b" for name in data.class_names)
    for names in (data.class_names, renamed):
        found = trained_queries(model_of(old), data.train, names)
        assert found.num_trained_classes == len(old.classes) > 0
    other = dataclasses.replace(old, names=("lost",))
    changed = dataclasses.replace(data, class_names=renamed)
    with pytest.raises(ValueError, match="which it was trained on"):
        evaluation_lists(changed, other)
