"""Test `match`, `whiten`, `export`, and `extract` of local features, with a tiny network."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.stores.local_features import load_local
from data_io.synthetic.dataset import DrawConfig


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=4, num_gallery=12, image_size_px=96)
    )


def test_whiten_extract_and_export_give_descriptors_of_each_image(
    place: Path, tmp_path: Path, run_verb
) -> None:
    train = f"--data={place}/products/train/train_data"
    run_verb(place, "whiten", train, f"--out={tmp_path}/w.npz")
    run_verb(
        place,
        "extract",
        train,
        f"--out={tmp_path}/f",
        "--local_features=delf",
        f"--whitening={tmp_path}/w.npz",
        "--descriptor_type=int8",
    )
    features = load_local(tmp_path / "f" / "delf")
    assert len(features) == 8
    assert features.descriptors.dtype == np.int8
    assert features.descriptors.shape[1] == 16
    dual_main.main(["export", f"--local_store={tmp_path}/f/delf", f"--out={tmp_path}/f.h5"])
    with h5py.File(tmp_path / "f.h5") as file:
        names: list[str] = []
        file.visit(names.append)
        assert sum(name.endswith("/descriptors") for name in names) == 8


def test_match_accepts_an_image_with_itself_and_draws_a_picture(
    place: Path, tmp_path: Path, capsys
) -> None:
    pytest.importorskip("cv2")
    photo = next((place / "products").rglob("*.jpg"))
    arguments = [
        "match",
        f"--image={photo}",
        f"--candidate={photo}",
        f"--out={tmp_path}/m.png",
        "--local_features=sift",
    ]
    dual_main.main(arguments)
    printed = capsys.readouterr().out
    assert re.search(r"^match: \d+ inliers, 12 needed. Picture: .*m.png$", printed, re.MULTILINE)
    assert Image.open(tmp_path / "m.png").size[1] > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerank", "--data=x"], "--out=FOLDER"),
        (
            ["rerank", "--data=x", "--out=y", "--method=magic"],
            "--method: unknown step 'magic'. Steps: dba, aqe, k_reciprocal, diffusion, geometric.",
        ),
        (
            ["rerank", "--data=x", "--out=y", "--min_inliers=-1"],
            "--min_inliers must be at least 0. Received -1",
        ),
        (["match", "--image=a.jpg"], "--candidate=FILE"),
        (["whiten", "--data=x"], "--out=FILE"),
        (["export", "--out=x.h5"], "--local_store=FOLDER"),
        (
            ["rerank", "--data=.", "--out=y", "--local_rotations=0,inf"],
            "--local_rotations.1 must be a number. Received inf.",
        ),
    ],
)
def test_a_missing_flag_or_bad_value_is_named(
    arguments: list[str], message: str, monkeypatch, place: Path, refused
) -> None:
    monkeypatch.chdir(place)
    assert message in refused(2, *arguments)


def test_match_with_delf_needs_whitening(place: Path, tmp_path: Path, refused, small_flags) -> None:
    photo = next((place / "products").rglob("*.jpg"))
    flags = [
        f"--image={photo}",
        f"--candidate={photo}",
        f"--out={tmp_path}/m.png",
        f"--pretrained_model={place}/trunk.ckpt",
    ]
    assert "whiten` learns one" in refused(2, "match", *flags, *small_flags("match"))


def test_a_whitening_of_another_dimension_is_refused(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    train = f"--data={place}/products/train/train_data"
    run_verb(place, "whiten", train, f"--out={tmp_path}/w.npz")
    photo = next((place / "products").rglob("*.jpg"))
    flags = [f"--image={photo}", f"--candidate={photo}", f"--out={tmp_path}/m.png"]
    with pytest.raises(SystemExit) as ended:
        run_verb(place, "match", *flags, f"--whitening={tmp_path}/w.npz", "--descriptor_dim=8")
    assert ended.value.code == 2
    assert "keeps 16 dimensions, not --descriptor_dim=8" in capsys.readouterr().err


def test_extract_names_skipped_files_and_export_names_images_by_relative_path(
    place: Path,
    tmp_path: Path,
    capsys,
) -> None:
    pytest.importorskip("cv2")
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    names = ("a.jpg", "a.png", "deep/b.c.png")
    for name in names:
        Image.new("RGB", (64, 48)).save(photos / name)
    (photos / "bad.jpg").write_bytes(b"x")
    dual_main.main(["extract", f"--data={photos}", f"--out={tmp_path}/f", "--local_features=sift"])
    printed = capsys.readouterr().out
    assert "of 3 images; 1 skipped" in printed
    assert f"skipped {photos}/bad.jpg: " in printed
    dual_main.main(["export", f"--local_store={tmp_path}/f/sift", f"--out={tmp_path}/f.h5"])
    with h5py.File(tmp_path / "f.h5") as file:
        # Two files of one stem are two images; only their ids keep the suffix.
        assert all(name in file for name in names) and len(file) == 3


def test_sift_without_opencv_is_refused_before_anything_is_written(
    place: Path, tmp_path: Path, capsys, monkeypatch, run_verb
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit):
        run_verb(
            place,
            "extract",
            f"--data={place}/products/train/train_data",
            f"--out={tmp_path}/f",
            "--local_features=both",
        )
    assert "RootSIFT needs OpenCV" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_run_gives_trained_attention_and_stores_its_whitening(
    place: Path, tmp_path: Path, capsys, refused, small_flags
) -> None:
    run_dir = tmp_path / "attention"
    train = f"--data={place}/products"
    flags = [
        "--train_logits",
        "--freeze_backbone",
        "--epochs=1",
        "--dev_percent=0",
        f"--run_dir={run_dir}",
    ]
    dual_main.main(["train", train, *flags, *small_flags("train"), "--batch_size=4"])
    photos = f"--data={place}/products/train/train_data"
    dual_main.main(["whiten", photos, f"--run_dir={run_dir}", *small_flags("whiten")])
    extract = ["--local_features=delf", f"--out={tmp_path}/f", *small_flags("extract")]
    dual_main.main(["extract", photos, f"--run_dir={run_dir}", *extract])
    printed = capsys.readouterr().out
    assert printed.count("attention: trained") == 2
    assert f"whitening: {run_dir}/whitening.npz\n" in printed
    beyond = [f"--run_dir={run_dir}", photos, *small_flags("whiten"), "--local_layer=block3"]
    error = refused(1, "whiten", *beyond)
    assert "its trunk ends at resnet_v1_50/block1, before block3 (--local_layer)" in error


def test_a_whitening_in_use_is_replaced_only_with_overwrite(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    flags = [
        f"--data={place}/products/train/train_data",
        f"--out={tmp_path}",
        "--local_features=delf",
    ]
    run_verb(place, "extract", *flags)
    learned = (tmp_path / "whitening.npz").read_bytes()
    with pytest.raises(SystemExit):
        run_verb(place, "extract", *flags, "--descriptor_dim=8")
    assert (
        "whitening.npz was learned for another model, layer or --descriptor_dim. Pass --overwrite."
        in capsys.readouterr().err
    )
    assert (tmp_path / "whitening.npz").read_bytes() == learned
    run_verb(place, "extract", *flags, "--descriptor_dim=8", "--overwrite")
    assert load_local(tmp_path / "delf").descriptors.shape[1] == 8
