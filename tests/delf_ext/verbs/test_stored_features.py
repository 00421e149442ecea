"""Test that a second call reads stored embeddings, and says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import dual_main
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.models.embedding_model import EmbeddingModel

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TRUNK = [f"--resnet_type={ENDPOINT}", "--image_size=32", "--layout=slim", "--mixed_precision=off"]
NUM_QUERIES = 3
NUM_GALLERY = 9


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DrawConfig(
        6, num_train=24, num_queries=NUM_QUERIES, num_gallery=NUM_GALLERY, image_size_px=48
    )
    return draw_dataset(tmp_path_factory.mktemp("data") / "products", config, progress=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, write_trunk: Callable[..., Path]) -> Path:
    return write_trunk(tmp_path_factory.mktemp("weights") / "unit.ckpt", ENDPOINT)


@pytest.fixture(scope="module")
def trained(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one epoch on data without queries, so that the run has no stored embeddings."""
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    flags = ["--train_logits", "--epochs=1", "--batch_size=8", "--dev_percent=0", *TRUNK]
    photos = products / "train" / "train_data"
    dual_main.main([f"--data={photos}", f"--run_dir={run_dir}", *flags])
    return run_dir


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def forbid_embedding(patch: pytest.MonkeyPatch) -> None:
    """Let the test fail if a network is built."""
    patch.setattr(EmbeddingModel, "build_variables", lambda *_: pytest.fail("a model was loaded"))


def stored_lines(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " are stored in " in line]


def test_a_second_evaluation_embeds_nothing_and_says_so(
    products: Path,
    run_dir: Path,
    capsys,
    monkeypatch,
) -> None:
    command = ["evaluate", f"--data={products}", f"--run_dir={run_dir}", "--noreport"]
    dual_main.main(command)
    assert not stored_lines(capsys.readouterr().out)
    figures = {path: path.read_bytes() for path in (run_dir / "metrics").iterdir()}
    assert len(figures) == 1
    forbid_embedding(monkeypatch)
    dual_main.main(command)
    queries, gallery = stored_lines(capsys.readouterr().out)
    (folder,) = (run_dir / "features").iterdir()
    assert queries == f"embedding queries: {NUM_QUERIES} of {NUM_QUERIES} are stored in {folder}"
    assert gallery == f"embedding gallery: {NUM_GALLERY} of {NUM_GALLERY} are stored in {folder}"
    assert {path: path.read_bytes() for path in (run_dir / "metrics").iterdir()} == figures


def test_compare_and_search_use_the_embeddings_that_evaluate_stored(
    products: Path,
    run_dir: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    dual_main.main(["evaluate", f"--data={products}", f"--run_dir={run_dir}", "--noreport"])
    capsys.readouterr()
    forbid_embedding(monkeypatch)
    methods = ["--method=aqe:2", f"--out={tmp_path}/page", "--noreport"]
    dual_main.main(["compare", f"--data={products}", f"--run_dir={run_dir}", *methods])
    assert len(stored_lines(capsys.readouterr().out)) == 2
    photos = products / "test" / "test_data"
    photo = next((photos / "query").glob("*.jpg"))
    search = ["search", f"--data={photos}/reference", f"--image={photo}"]
    dual_main.main([*search, f"--run_dir={run_dir}"])
    printed = capsys.readouterr().out
    assert len(stored_lines(printed)) == 2 and " 1. " in printed


def test_embeddings_of_a_checkpoint_are_stored_in_the_cache_folder(
    products: Path,
    weights: Path,
    cache: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    command = ["evaluate", f"--data={products}", f"--pretrained_model={weights}", *TRUNK]
    dual_main.main([*command, f"--json={tmp_path}/first.json"])
    capsys.readouterr()
    forbid_embedding(monkeypatch)
    dual_main.main([*command, f"--json={tmp_path}/second.json"])
    said = stored_lines(capsys.readouterr().out)
    assert len(said) == 2 and all(f"stored in {cache}/features/" in line for line in said)
    first, second = ((tmp_path / name).read_text() for name in ("first.json", "second.json"))
    assert first == second


def test_nostore_features_stores_nothing(products: Path, run_dir: Path, capsys) -> None:
    command = ["evaluate", f"--data={products}", f"--run_dir={run_dir}", "--noreport"]
    for _ in range(2):
        dual_main.main([*command, "--nostore_features"])
    assert not stored_lines(capsys.readouterr().out) and not (run_dir / "features").exists()


def test_images_are_identified_by_content(
    products: Path,
    run_dir: Path,
    tmp_path: Path,
    capsys,
) -> None:
    photos = Path(shutil.copytree(products / "test" / "test_data" / "reference", tmp_path / "p"))
    query = next((products / "test" / "test_data" / "query").glob("*.jpg"))
    search = ["search", f"--data={photos}", f"--image={query}", f"--run_dir={run_dir}"]
    dual_main.main(search)
    shutil.copy(query, photos / "copy.jpg")
    (photos / "refer_0.jpg").rename(photos / "renamed.jpg")
    with Image.open(photos / "refer_1.jpg") as picture:
        picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(photos / "refer_1.jpg")
    capsys.readouterr()
    dual_main.main(search)
    printed = capsys.readouterr().out
    gallery = next(line for line in stored_lines(printed) if "gallery" in line)
    # The copy and the renamed image are known, the changed one is not.
    total = NUM_GALLERY + 1
    assert gallery.startswith(f"embedding gallery: {total - 1} of {total} are stored in ")
    assert f"1. 1.0000  {photos}/copy.jpg" in printed


# --- --features


@pytest.fixture
def extracted(products: Path, weights: Path, tmp_path: Path) -> Path:
    """Extract embeddings of query and gallery images with the checkpoint."""
    out = tmp_path / "embeddings"
    flags = [f"--data={products}/test/test_data", f"--pretrained_model={weights}", *TRUNK]
    dual_main.main(["extract", *flags, f"--out={out}"])
    return out


def test_features_reads_a_folder_that_extract_wrote(
    products: Path,
    weights: Path,
    extracted: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
) -> None:
    command = ["evaluate", f"--data={products}", f"--pretrained_model={weights}", *TRUNK]
    dual_main.main([*command, f"--json={tmp_path}/own.json", "--nostore_features"])
    capsys.readouterr()
    forbid_embedding(monkeypatch)
    taken = [f"--features={extracted}", f"--json={tmp_path}/taken.json"]
    dual_main.main([*command, *taken])
    assert len(stored_lines(capsys.readouterr().out)) == 2
    own, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "taken"))
    assert own["mAP"] == pytest.approx(found["mAP"], abs=1e-6)


def test_features_of_another_model_are_refused(
    products: Path,
    weights: Path,
    extracted: Path,
    capsys,
) -> None:
    flags = [
        f"--data={products}",
        f"--pretrained_model={weights}",
        f"--features={extracted}",
        *TRUNK,
    ]
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["evaluate", *flags, "--pooling=gem"])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.count("\n") == 1
    assert f"error: {extracted} was made by model " in error and error.endswith(" Extract again.\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder of features; `mandoo extract --out="),
        (lambda folder: folder.mkdir(), "no stored features in it; `mandoo extract --out="),
    ],
)
def test_features_names_a_missing_or_empty_folder(
    products: Path,
    weights: Path,
    tmp_path: Path,
    make: Callable[[Path], None],
    message: str,
    capsys,
) -> None:
    make(tmp_path / "f")
    flags = [f"--data={products}", f"--pretrained_model={weights}", *TRUNK]
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["evaluate", *flags, f"--features={tmp_path}/f"])
    assert ended.value.code == 1 and f"{tmp_path}/f: {message}" in capsys.readouterr().err


def test_features_with_two_models_is_refused(
    products: Path,
    weights: Path,
    run_dir: Path,
    extracted: Path,
    capsys,
) -> None:
    models = [f"--pretrained_model={weights}", f"--run_dir={run_dir}", *TRUNK]
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["compare", f"--data={products}", *models, f"--features={extracted}"])
    assert ended.value.code == 2
    assert "--features belongs to one model" in capsys.readouterr().err
