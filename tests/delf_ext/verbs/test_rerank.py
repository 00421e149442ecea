"""Local features through the front door, on tiny networks: rerank, match, whiten, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.artifacts import load_record
from data_io.records import Ranking
from data_io.stores.local_features import load_local
from data_io.synthetic.dataset import DrawConfig
from delf_ext.features.local.delf import DelfExtractor
from delf_ext.verbs.verb_table import VERBS

TINY = [
    "--image_size=32",
    "--resnet_type=resnet_v1_50/block1",
    "--batch_size=8",
    "--mixed_precision=off",
    "--layout=slim",
]
LOCAL = [
    "--local_layer=block1",
    "--local_image_size=64",
    "--local_scales=1,1.4142",
    "--max_features=80",
    "--descriptor_dim=16",
]


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=4, num_gallery=12, image_size_px=96),
    )


def small(verb: str) -> list[str]:
    """Return those of the flags above that the verb takes."""
    return [flag for flag in (*TINY, *LOCAL) if flag[2:].partition("=")[0] in VERBS[verb].flags]


def run(place: Path, verb: str, *flags: str) -> None:
    dual_main.main([verb, f"--pretrained_model={place}/trunk.ckpt", *small(verb), *flags])


def ended_with(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        dual_main.main(list(arguments))
    assert ended.value.code == status
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_rerank_leaves_ranking_figures_page_and_stores(
    place: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    data, out = f"--data={place}/products", tmp_path / "out"
    run(place, "rerank", data, f"--out={out}", "--method=geometric:5", "--min_inliers=5")
    printed = capsys.readouterr().out
    assert "attention: length of the feature vectors" in printed and "mAP - first" in printed
    ranking = load_record(out / "ranking.npz", Ranking)
    assert ranking.rows.shape == (4, 12) and "top 5 re-ranked geometrically" in ranking.provenance
    figures = json.loads((out / "metrics.json").read_text())
    verified = figures["verification"]
    assert verified["matching_pairs"] + verified["other_pairs"] == 4 * 5
    assert verified["accepted_from"] == [5]
    # the first five stay the first five
    assert figures["before"]["recall_at_5"] == figures["after"]["recall_at_5"]
    assert "class='inliers" in (out / "report" / "index.html").read_text()
    assert Image.open(out / "inliers.png").size[0] > 300
    candidates = {ranking.gallery_ids[row] for row in np.unique(ranking.rows[:, :5])}
    # nothing else was extracted
    assert set(load_local(out / "local" / "delf" / "gallery").ids) == candidates

    with monkeypatch.context() as patch:
        patch.setattr(DelfExtractor, "extract", lambda *_: pytest.fail("extracted again"))
        run(
            place,
            "rerank",
            data,
            f"--out={out}",
            "--method=geometric:5",
            "--min_inliers=5",
            "--noreport",
        )
    np.testing.assert_array_equal(load_record(out / "ranking.npz", Ranking).rows, ranking.rows)

    with pytest.raises(SystemExit) as ended:
        run(place, "rerank", data, f"--out={out}", "--max_features=40")
    assert ended.value.code == 1 and "Pass --overwrite" in capsys.readouterr().err


def test_rerank_with_both_kinds_of_features(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    run(
        place,
        "rerank",
        f"--data={place}/products",
        f"--out={tmp_path}",
        "--local_features=both",
        "--order_by=combined",
        "--noreport",
    )
    assert {path.name for path in (tmp_path / "local").iterdir()} == {
        "delf",
        "sift",
        "whitening.npz",
    }


def test_whiten_then_extract_then_export(place: Path, tmp_path: Path) -> None:
    train = f"--data={place}/products/train/train_data"
    run(place, "whiten", train, f"--out={tmp_path}/w.npz")
    run(
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
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None,
        )
        assert sum(name.endswith("/descriptors") for name in names) == 8


def test_match_draws_a_picture(place: Path, tmp_path: Path, capsys) -> None:
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
    assert "accepted: " in printed and "not accepted" not in printed
    assert Image.open(tmp_path / "m.png").size[1] > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerank", "--data=x"], "--out=FOLDER"),
        (
            ["rerank", "--data=x", "--out=y", "--method=magic"],
            "--method names dba, aqe, k_reciprocal, diffusion, geometric",
        ),
        (
            ["rerank", "--data=x", "--out=y", "--min_inliers=-1"],
            "--min_inliers must not be negative. Received -1",
        ),
        (["match", "--image=a.jpg"], "--candidate=PHOTO"),
        (["whiten", "--data=x"], "--out=FILE"),
        (["export", "--out=x.h5"], "--local_store=FOLDER"),
        (["extract", "--data=.", "--out=y", "--local_features=delf"], "DELF needs a trunk"),
        (
            ["rerank", "--data=.", "--out=y", "--local_rotations=0,inf"],
            "numbers, separated by commas",
        ),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys, monkeypatch, place: Path) -> None:
    monkeypatch.chdir(place)
    assert message in ended_with(capsys, 2, *arguments)


def test_match_with_delf_needs_a_whitening(place: Path, tmp_path: Path, capsys) -> None:
    photo = next((place / "products").rglob("*.jpg"))
    flags = [
        f"--image={photo}",
        f"--candidate={photo}",
        f"--out={tmp_path}/m.png",
        f"--pretrained_model={place}/trunk.ckpt",
    ]
    assert "`whiten` learns one" in ended_with(capsys, 2, "match", *flags, *small("match"))


def test_a_whitening_of_another_dimension_is_refused(place: Path, tmp_path: Path, capsys) -> None:
    train = f"--data={place}/products/train/train_data"
    run(place, "whiten", train, f"--out={tmp_path}/w.npz")
    photo, out = (
        next((place / "products").rglob("*.jpg")),
        [f"--whitening={tmp_path}/w.npz", f"--out={tmp_path}/m.png"],
    )
    with pytest.raises(SystemExit) as ended:
        run(
            place,
            "match",
            *[f"--{name}={photo}" for name in ("image", "candidate")],
            *out,
            "--descriptor_dim=8",
        )
    assert ended.value.code == 2
    assert "keeps 16 dimensions, not --descriptor_dim=8" in capsys.readouterr().err


def test_extract_names_what_the_folder_left_out_and_export_paths_below_it(
    place: Path,
    tmp_path: Path,
    capsys,
) -> None:
    pytest.importorskip("cv2")
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "deep/b.c.png"):
        Image.new("RGB", (64, 48)).save(photos / name)
    dual_main.main(["extract", f"--data={photos}", f"--out={tmp_path}/f", "--local_features=sift"])
    printed = capsys.readouterr().out
    assert "of 2 images; 1 skipped" in printed
    assert f"skipped {photos}/a.png: same id as {photos}/a.jpg" in printed
    dual_main.main(["export", f"--local_store={tmp_path}/f/sift", f"--out={tmp_path}/f.h5"])
    with h5py.File(tmp_path / "f.h5") as file:
        assert "a.jpg" in file and "deep/b.c.png" in file and len(file) == 2


def test_without_opencv_nothing_is_extracted(
    place: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit):
        run(
            place,
            "extract",
            f"--data={place}/products/train/train_data",
            f"--out={tmp_path}/f",
            "--local_features=both",
        )
    assert "RootSIFT needs OpenCV" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_run_brings_its_trained_attention_and_keeps_its_whitening(
    place: Path,
    tmp_path: Path,
    capsys,
) -> None:
    run_dir, train = tmp_path / "attention", f"--data={place}/products"
    flags = [
        "--train_logits",
        "--freeze_backbone",
        "--epochs=1",
        "--dev_percent=0",
        f"--run_dir={run_dir}",
    ]
    dual_main.main(["train", train, *flags, *TINY, "--batch_size=4"])
    photos = f"--data={place}/products/train/train_data"
    dual_main.main(["whiten", photos, f"--run_dir={run_dir}", *small("whiten")])
    extract = ["--local_features=delf", f"--out={tmp_path}/f", *small("extract")]
    dual_main.main(["extract", photos, f"--run_dir={run_dir}", *extract])
    printed = capsys.readouterr().out
    assert printed.count("attention: trained") == 2
    assert f"whitening: {run_dir}/whitening.npz\n" in printed
    beyond = [f"--run_dir={run_dir}", photos, *small("whiten"), "--local_layer=block3"]
    assert "its trunk ends at resnet_v1_50/block1, before block3 (--local_layer)" in ended_with(
        capsys,
        1,
        "whiten",
        *beyond,
    )


def test_the_whitening_that_a_store_needs_is_not_replaced(
    place: Path,
    tmp_path: Path,
    capsys,
) -> None:
    flags = [
        f"--data={place}/products/train/train_data",
        f"--out={tmp_path}",
        "--local_features=delf",
    ]
    run(place, "extract", *flags)
    learned = (tmp_path / "whitening.npz").read_bytes()
    with pytest.raises(SystemExit):
        run(place, "extract", *flags, "--descriptor_dim=8")
    assert (
        "whitening.npz was learned for another model, layer or --descriptor_dim. Pass --overwrite."
        in capsys.readouterr().err
    )
    assert (tmp_path / "whitening.npz").read_bytes() == learned
    run(place, "extract", *flags, "--descriptor_dim=8", "--overwrite")
    assert load_local(tmp_path / "delf").descriptors.shape[1] == 8
