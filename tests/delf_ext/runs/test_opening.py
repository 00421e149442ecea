"""Test open_model: names, stores, digests, lazy loading and errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io.checkpoint_folder import CheckpointFolder
from data_io.files.artifacts import StaleArtifact
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.app.searching import extract
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes import codec, schema
from delf_ext.recipes.schema import Recipe
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import load_model, recipe_of
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import write_run
from delf_ext.runs.sources import CheckpointSource, EnsembleSource, OnnxSource, RunSource, Runtime
from pretrained.convert import write_checkpoint

SIZE_PX = 32
END_POINT = "block1/unit_1/bottleneck_v1"
FLOAT32 = Runtime(mixed_precision="off")
TRUNK = schema.Trunk(end_point=END_POINT, layout="slim")
# A directory name with characters that glob interprets.
STRANGE = "[2024] w*?"

WriteRun = Callable[..., Run]


@pytest.fixture(params=["run", STRANGE])
def run_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.fixture(scope="module")
def trunk() -> SlimTrunk:
    network = SlimTrunk(f"resnet_v1_50/{END_POINT}")
    network(tf.zeros([1, SIZE_PX, SIZE_PX, 3]))
    return network


@pytest.fixture(scope="module")
def checkpoint(trunk: SlimTrunk, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "trunk.ckpt"
    values = {variable.name.split(":")[0]: variable.numpy() for variable in trunk.variables}
    write_checkpoint(path, values)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path, photographs: np.ndarray) -> ImageList:
    paths = [str(tmp_path / f"{row}.png") for row in range(len(photographs))]
    for path, pixels in zip(paths, photographs, strict=True):
        Image.fromarray(pixels).save(path)
    return ImageList(["0", "1", "2"], paths)


def mean_colour(photographs: np.ndarray) -> np.ndarray:
    means = photographs.mean(axis=(1, 2)) / 255
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def embedder(opened: Embedder | Ensemble) -> Embedder:
    assert isinstance(opened, Embedder)
    return opened


def error_message(open_it: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        open_it()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- runs


@pytest.mark.parametrize("kind", ["best", "last"])
def test_run_embeds_with_its_saved_weights(
    run_dir: Path,
    write_tiny_run: WriteRun,
    kind: str,
    expected: np.ndarray,
    photographs: np.ndarray,
) -> None:
    write_tiny_run(run_dir, kind=kind)
    opened = embedder(open_model(run_dir, FLOAT32))
    np.testing.assert_allclose(opened.embed(photographs), expected, atol=1e-6)
    assert opened.name == f"mandoo_dual {run_dir.name} ({kind}-5)" and opened.image_size == SIZE_PX
    assert opened.store is not None and opened.store.folder.parent == run_dir / "features"


def test_best_weights_are_preferred_to_the_last(tmp_path: Path, write_tiny_run: WriteRun) -> None:
    write_tiny_run(tmp_path, kind="last")
    write_tiny_run(tmp_path, kind="best")
    assert open_model(tmp_path).name.endswith("(best-5)")


def test_embeddings_of_a_run_are_stored_and_reused(
    run_dir: Path,
    write_tiny_run: WriteRun,
    photos: ImageList,
    expected: np.ndarray,
) -> None:
    write_tiny_run(run_dir)
    features, _ = extract(open_model(run_dir, FLOAT32), photos)
    np.testing.assert_allclose(features.embeddings, expected, atol=1e-5)

    def never(images: np.ndarray) -> np.ndarray:
        raise AssertionError("embedded again")

    again = dataclasses.replace(embedder(open_model(run_dir, FLOAT32)), embed=never)
    np.testing.assert_array_equal(extract(again, photos)[0].embeddings, features.embeddings)


def test_store_false_stores_nothing(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    photos: ImageList,
) -> None:
    write_tiny_run(tmp_path / "run")
    opened = embedder(open_model(tmp_path / "run", FLOAT32, store=False))
    extract(opened, photos)
    assert opened.store is None and not (tmp_path / "run" / "features").exists()


def test_size_copies_and_ranking_come_from_the_recipe(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    tiny: Recipe,
) -> None:
    recipe = dataclasses.replace(
        tiny,
        stages=(schema.Stage(1), schema.Stage(1, size_px=48)),
        test_time=schema.TestTime(("mirror",), queries_only=True),
        ranking="aqe:2",
    )
    write_tiny_run(tmp_path, recipe)
    opened = embedder(open_model(tmp_path))
    assert (opened.image_size, opened.ranking) == (48, "aqe:2")
    assert opened.test_time == recipe.test_time


def test_digest_depends_on_weights_and_model_only(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    tiny: Recipe,
) -> None:
    longer = dataclasses.replace(tiny, name="longer", stages=(schema.Stage(99),))
    larger = dataclasses.replace(tiny, input=schema.Input(64))
    layout = codec.with_settings(tiny, ["model.trunk.layout=v1.5"])
    from_weights = codec.with_settings(tiny, ["model.trunk.weights=/weights/trunk.ckpt"])
    recipes = [tiny, longer, from_weights, larger, layout]
    for row, recipe in enumerate(recipes):
        write_tiny_run(tmp_path / str(row), recipe)
    digests = [open_model(tmp_path / str(row)).digest for row in range(len(recipes))]
    assert digests[0] == digests[1] == digests[2] and len(set(digests)) == 3


def test_bfloat16_has_another_digest(tmp_path: Path, write_tiny_run: WriteRun) -> None:
    write_tiny_run(tmp_path)
    plain = open_model(tmp_path, FLOAT32).digest
    assert open_model(tmp_path, Runtime(mixed_precision="bfloat16")).digest == f"{plain}-bf16"
    if find_spec("openvino"):
        # It rounds in other places than TensorFlow.
        other = open_model(tmp_path, Runtime("openvino", "bfloat16"))
        assert other.digest == f"{plain}-bf16-openvino"


def test_openvino_gives_equal_embeddings_and_digest(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    expected: np.ndarray,
    photographs: np.ndarray,
) -> None:
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    write_tiny_run(tmp_path)
    fast = embedder(open_model(tmp_path, Runtime("openvino", "off")))
    np.testing.assert_allclose(fast.embed(photographs), expected, atol=1e-5)
    assert fast.digest == open_model(tmp_path, FLOAT32).digest


def test_weights_saved_after_opening_are_not_used(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    expected: np.ndarray,
    photographs: np.ndarray,
) -> None:
    write_tiny_run(tmp_path, kind="last")
    opened = embedder(open_model(tmp_path, FLOAT32))
    better = tf.train.Checkpoint(weights={})
    CheckpointFolder(tmp_path / "checkpoint", "best").save(9, better.write)
    np.testing.assert_allclose(opened.embed(photographs), expected, atol=1e-6)


def test_load_model_returns_the_trained_weights(
    run_dir: Path,
    write_tiny_run: WriteRun,
    model: EmbeddingModel,
) -> None:
    loaded, name = load_model(write_tiny_run(run_dir))
    assert name == "best-5"
    for key, variable in model.named_variables().items():
        values = loaded.named_variables()[key].numpy()
        np.testing.assert_array_equal(values, variable.numpy(), err_msg=key)


def test_run_without_checkpoint_is_an_error(tmp_path: Path, tiny: Recipe) -> None:
    write_run(tmp_path, "recipe", codec.to_json(tiny), Facts())
    hint = "the run has not saved one yet. Pass --resume to continue its training."
    assert (
        error_message(lambda: open_model(tmp_path))
        == f"{tmp_path / 'checkpoint'}: no checkpoint; {hint}"
    )


def test_run_whose_reduction_is_not_fitted_is_opened_without_it(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    tiny: Recipe,
) -> None:
    write_tiny_run(tmp_path, dataclasses.replace(tiny, reduction=schema.Lda()))
    lines: list[str] = []
    assert isinstance(open_model(tmp_path, log=lines.append), Embedder)
    assert lines == [
        f"{tmp_path}: the reduction Lda is not fitted yet, so embeddings are without it; it is "
        "fitted at the end of training (--resume)"
    ]


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_error_for_damaged_checkpoint_is_one_line(
    run_dir: Path,
    write_tiny_run: WriteRun,
    photographs: np.ndarray,
    part: str,
) -> None:
    write_tiny_run(run_dir)
    opened = embedder(open_model(run_dir, FLOAT32))
    file = run_dir / "checkpoint" / f"best-5.{part}"
    file.write_bytes(file.read_bytes()[:50])
    message = error_message(lambda: opened.embed(photographs))
    prefix = run_dir / "checkpoint" / "best-5"
    assert message.startswith(f"{prefix}: damaged, or of another network than recipe.json (")


def test_error_for_weights_of_another_network_is_one_line(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    photographs: np.ndarray,
) -> None:
    run = write_tiny_run(tmp_path)
    write_run(tmp_path, "recipe", run.recipe, Facts(class_names=("a", "b")))
    opened = embedder(open_model(tmp_path, FLOAT32))
    message = error_message(lambda: opened.embed(photographs))
    prefix = tmp_path / "checkpoint" / "best-5"
    assert message.startswith(f"{prefix}: damaged, or of another network than recipe.json (")


# --- features of `mandoo extract`


def test_features_folder_is_used(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    photos: ImageList,
) -> None:
    write_tiny_run(tmp_path / "run")
    plain = embedder(open_model(tmp_path / "run", FLOAT32, store=False))
    features, _ = extract(plain, photos)
    contents = [str(row) for row in range(3)]
    elsewhere = tmp_path / "elsewhere"
    EmbeddingStore(elsewhere, plain.digest, print).add(contents, features.embeddings)
    for store in (False, True):
        opened = open_model(tmp_path / "run", FLOAT32, store=store, features=elsewhere)
        embeddings = embedder(opened).store
        assert embeddings is not None
        np.testing.assert_array_equal(embeddings.get("1"), features.embeddings[1])
        extract(opened, photos)
        assert (tmp_path / "run" / "features").exists() is store
    assert len(list(elsewhere.rglob("*.npz"))) == 1


def test_error_for_features_of_another_model_names_both_digests(
    tmp_path: Path,
    write_tiny_run: WriteRun,
) -> None:
    write_tiny_run(tmp_path / "run")
    EmbeddingStore(tmp_path / "other", "ffff", print).add(["a"], np.eye(1, 4, dtype=np.float32))
    with pytest.raises(StaleArtifact) as caught:
        open_model(tmp_path / "run", FLOAT32, features=tmp_path / "other")
    mine = open_model(tmp_path / "run", FLOAT32).digest
    assert "ffff-" in str(caught.value) and f"this model is {mine}-" in str(caught.value)


# --- checkpoints


@pytest.mark.parametrize("pool", [schema.Average(), schema.Gem(2.0), schema.FeatureNorm()])
def test_checkpoint_embeds_as_its_pooled_trunk(
    checkpoint: str,
    trunk: SlimTrunk,
    photographs: np.ndarray,
    pool: schema.Pool,
) -> None:
    lines: list[str] = []
    source = CheckpointSource(checkpoint, TRUNK, pool, SIZE_PX)
    opened = embedder(open_model(source, FLOAT32, log=lines.append))
    features = trunk(tf.constant(photographs))[f"resnet_v1_50/{END_POINT}"].numpy()
    flat = features.reshape(len(features), -1, features.shape[-1])
    pooled = {
        "Average": flat.mean(axis=1),
        "Gem": np.sqrt((np.maximum(flat, 1e-6) ** 2).mean(axis=1)),
        "FeatureNorm": (flat * np.linalg.norm(flat, axis=-1, keepdims=True)).sum(axis=1),
    }[type(pool).__name__]
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(opened.embed(photographs), unit, atol=1e-5)
    (report,) = lines
    counts = f"{len(trunk.variables)} variables matched, 0 missing, 0 unused, 0 of another shape"
    assert report == f"{checkpoint}: {counts}"
    names = {"Average": "avg", "Gem": "Gem", "FeatureNorm": "attention"}
    assert opened.name == f"untrained resnet_v1_50/{END_POINT} {names[type(pool).__name__]}"


def test_embeddings_of_a_checkpoint_are_stored_in_the_cache_folder(
    checkpoint: str,
    cache: Path,
) -> None:
    opened = embedder(open_model(CheckpointSource(checkpoint, TRUNK)))
    assert opened.store is not None and opened.store.folder.parent == cache / "features"


def test_digest_of_a_checkpoint_depends_on_pool_size_and_layout(checkpoint: str) -> None:
    source = CheckpointSource(checkpoint, TRUNK, schema.Average(), SIZE_PX)
    others = [
        dataclasses.replace(source, pool=schema.Gem()),
        dataclasses.replace(source, size_px=64),
        dataclasses.replace(source, trunk=dataclasses.replace(TRUNK, layout="v1.5")),
    ]
    assert len({open_model(changed).digest for changed in (source, *others)}) == 4
    assert open_model(source).digest == open_model(source).digest


def test_weights_that_do_not_fit_the_trunk_are_an_error(
    checkpoint: str,
    photographs: np.ndarray,
) -> None:
    source = CheckpointSource(checkpoint, dataclasses.replace(TRUNK, end_point="block2"))
    opened = embedder(open_model(source, FLOAT32))
    with pytest.raises(ValueError, match="does not fit the trunk resnet_v1_50; choose another"):
        opened.embed(photographs)


def test_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    source = CheckpointSource(str(tmp_path / "none.ckpt"), TRUNK)
    lines: list[str] = []
    message = error_message(lambda: open_model(source, log=lines.append))
    assert message.startswith(f"{tmp_path / 'none.ckpt'}: no such checkpoint. `python")
    # Nothing is said about the layout of a file that does not exist.
    assert lines == []


# --- ONNX


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_onnx_file_embeds(
    onnx_model: Path,
    photographs: np.ndarray,
    cache: Path,
    runtime: str,
) -> None:
    pytest.importorskip("openvino"), pytest.importorskip("onnxruntime")
    opened = embedder(open_model(onnx_model, Runtime(runtime, "off")))
    np.testing.assert_allclose(opened.embed(photographs), mean_colour(photographs), atol=1e-5)
    assert (opened.name, opened.image_size, opened.graph) == ("mean.onnx", SIZE_PX, None)
    assert opened.store is not None and opened.store.folder.parent == cache / "features"


# --- ensembles


def test_ensemble_joins_the_unit_vectors_of_its_members(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    checkpoint: str,
    photos: ImageList,
) -> None:
    write_tiny_run(tmp_path / "run")
    members = (
        RunSource(str(tmp_path / "run")),
        CheckpointSource(checkpoint, TRUNK, size_px=SIZE_PX),
    )
    source = EnsembleSource(members, schema.Concatenate((2.0, 1.0)), "both")
    opened = open_model(source, FLOAT32)
    assert isinstance(opened, Ensemble) and opened.name == "both"
    alone = [open_model(member, FLOAT32) for member in members]
    first, second = (extract(model, photos)[0].embeddings for model in alone)
    joined = np.concatenate([2 * first, second], axis=1) / np.sqrt(5)
    np.testing.assert_allclose(extract(opened, photos)[0].embeddings, joined, atol=1e-6)
    assert [member.store is not None for member in opened.members] == [True, True]
    plain = open_model(source, FLOAT32, store=False)
    assert isinstance(plain, Ensemble)
    assert [member.store for member in plain.members] == [None, None]
    other = dataclasses.replace(source, join=schema.Concatenate())
    assert open_model(other).digest != opened.digest != plain.members[0].digest


def test_features_folder_for_an_ensemble_is_an_error(
    tmp_path: Path, write_tiny_run: WriteRun
) -> None:
    write_tiny_run(tmp_path / "run")
    source = EnsembleSource((RunSource(str(tmp_path / "run")),) * 2)
    message = "--features belongs to one model; an ensemble keeps the embeddings of each member."
    assert error_message(lambda: open_model(source, features=tmp_path)) == message


def ensemble_run(path: Path, *members: schema.Member, **options: object) -> schema.EnsembleRecipe:
    recipe = schema.EnsembleRecipe("pair", members, **options)  # type: ignore[arg-type]
    write_run(path, "ensemble", codec.to_json(recipe), Facts())
    return recipe


def test_ensemble_run_opens_trained_members_and_finished_runs(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    tiny: Recipe,
    photos: ImageList,
    expected: np.ndarray,
) -> None:
    write_tiny_run(tmp_path / "finished")
    write_tiny_run(tmp_path / "both" / "members" / "own")
    finished = schema.Member("finished", run=str(tmp_path / "finished"))
    recipe = ensemble_run(
        tmp_path / "both",
        schema.Member("own", tiny),
        finished,
        join=schema.MeanEmbedding(),
        ranking="aqe:1",
    )
    opened = open_model(tmp_path / "both", FLOAT32)
    assert isinstance(opened, Ensemble) and opened.join == recipe.join
    assert (opened.name, opened.ranking) == ("pair both", "aqe:1")
    assert [member.name for member in opened.members] == [
        "mandoo_dual own (best-5)",
        "mandoo_dual finished (best-5)",
    ]
    np.testing.assert_allclose(extract(opened, photos)[0].embeddings, expected, atol=1e-5)
    folders = [member.store.folder.parent for member in opened.members if member.store]
    assert folders == [tmp_path / "both/members/own/features", tmp_path / "finished/features"]


def test_ensemble_run_with_store_false_stores_nothing(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    photos: ImageList,
) -> None:
    members = []
    for name in "ab":
        write_tiny_run(tmp_path / name)
        members.append(schema.Member(name, run=str(tmp_path / name)))
    ensemble_run(tmp_path / "both", *members)
    opened = open_model(tmp_path / "both", FLOAT32, store=False)
    assert isinstance(opened, Ensemble)
    assert [member.store for member in opened.members] == [None, None]
    message = "--features belongs to one model; an ensemble keeps the embeddings of each member."
    assert error_message(lambda: open_model(tmp_path / "both", features=tmp_path / "a")) == message


def test_nested_ensemble_is_an_error(
    tmp_path: Path,
    write_tiny_run: WriteRun,
) -> None:
    members = []
    for name in "ab":
        write_tiny_run(tmp_path / name)
        members.append(schema.Member(name, run=str(tmp_path / name)))
    ensemble_run(tmp_path / "inner", *members)
    inner = schema.Member("inner", run=str(tmp_path / "inner"))
    ensemble_run(tmp_path / "outer", members[0], inner)
    message = "pair inner: an ensemble inside an ensemble is not built yet."
    assert error_message(lambda: open_model(tmp_path / "outer")) == message
    nested = EnsembleSource((RunSource(str(tmp_path / "a")), RunSource(str(tmp_path / "inner"))))
    assert error_message(lambda: open_model(nested)) == message


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (
            schema.MeanSimilarity(),
            "MeanSimilarity is not built yet. Built: Concatenate, MeanEmbedding.",
        ),
        (schema.Concatenate((1.0,)), "Concatenate.weights needs 2 numbers. Received 1."),
    ],
)
def test_join_that_cannot_be_made_is_an_error(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    join: schema.Join,
    message: str,
) -> None:
    write_tiny_run(tmp_path / "run")
    source = EnsembleSource((RunSource(str(tmp_path / "run")),) * 2, join)
    assert error_message(lambda: open_model(source)) == message


def test_load_model_of_an_ensemble_is_an_error(tmp_path: Path) -> None:
    members = [schema.Member(name, run=name) for name in "ab"]
    recipe = ensemble_run(tmp_path, *members)
    run = Run(tmp_path, "ensemble", codec.to_json(recipe), Facts())
    assert recipe_of(run) == recipe
    message = f"{tmp_path}: holds an ensemble; name one of its members."
    assert error_message(lambda: load_model(run)) == message


# --- runtimes


def test_error_for_unknown_runtime_lists_known_runtimes(tmp_path: Path) -> None:
    known = "auto, tensorflow, openvino, openvino-int8, onnxruntime"
    message = error_message(lambda: open_model(tmp_path, Runtime("torch")))
    assert message == f"--runtime must be one of {known}. Received 'torch'."


@pytest.mark.parametrize("runtime", ["tensorflow", "openvino-int8"])
def test_runtimes_that_cannot_run_onnx_are_errors(runtime: str) -> None:
    hint = "pass openvino or onnxruntime, or leave it out."
    message = f"--runtime={runtime} does not run --onnx_model: {hint}"
    assert error_message(lambda: open_model(OnnxSource("a.onnx"), Runtime(runtime))) == message


def test_onnxruntime_for_runs_and_checkpoints_is_an_error(tmp_path: Path, checkpoint: str) -> None:
    hint = "for runs and checkpoints pass openvino, or leave it out."
    message = f"--runtime=onnxruntime runs --onnx_model; {hint}"
    for source in (RunSource(str(tmp_path)), CheckpointSource(checkpoint)):
        assert (
            error_message(lambda source=source: open_model(source, Runtime("onnxruntime")))
            == message
        )


def test_int8_without_calibration_images_is_an_error(
    tmp_path: Path,
    write_tiny_run: WriteRun,
) -> None:
    pytest.importorskip("openvino"), pytest.importorskip("nncf")
    write_tiny_run(tmp_path)
    message = "--runtime=openvino-int8 needs images to calibrate on: pass --data."
    assert error_message(lambda: open_model(tmp_path, Runtime("openvino-int8"))) == message
    members = [schema.Member(name, run=str(tmp_path)) for name in "ab"]
    ensemble_run(tmp_path / "both", *members)
    assert error_message(lambda: open_model(tmp_path / "both", Runtime("openvino-int8"))) == message


def test_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_model(tmp_path / "none")


# --- lazy imports


def loaded_modules(code: str, cache: Path) -> list[str]:
    """Return which large modules a new interpreter imports while it runs `code`."""
    names = ("tensorflow", "tf_slim", "onnxruntime")
    report = f"import sys; print(*(name for name in {names} if name in sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
        env={"MANDOO_CACHE": str(cache), "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    return process.stdout.split()


def test_opening_does_not_import_tensorflow(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    checkpoint: str,
    cache: Path,
) -> None:
    write_tiny_run(tmp_path / "run")
    members = [schema.Member(name, run=str(tmp_path / "run")) for name in "ab"]
    ensemble_run(tmp_path / "both", *members)
    sources = [str(tmp_path / "run"), str(tmp_path / "both"), checkpoint]
    code = (
        "from delf_ext.runs.opening import open_model\n"
        "from delf_ext.runs.sources import *\n"
        f"for runtime in ('auto', 'tensorflow', 'openvino'):\n"
        f"    for source in {sources}:\n"
        "        open_model(source, Runtime(runtime))\n"
    )
    assert loaded_modules(code, cache) == []


def test_searching_stored_embeddings_does_not_import_tensorflow(
    tmp_path: Path,
    write_tiny_run: WriteRun,
    photos: ImageList,
    cache: Path,
) -> None:
    write_tiny_run(tmp_path / "run")
    extract(open_model(tmp_path / "run", FLOAT32), photos)
    code = (
        "from delf_ext.app.searching import search\n"
        "from delf_ext.runs.opening import open_model\n"
        "from delf_ext.runs.sources import Runtime\n"
        f"model = open_model({str(tmp_path / 'run')!r}, Runtime(mixed_precision='off'))\n"
        f"assert len(search(model, {str(photos.paths[0])!r}, {str(photos.paths[1])!r})) == 1\n"
    )
    assert loaded_modules(code, cache) == []
