"""Run the demo: train on drawn products, and compare with the baseline of the challenge."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.progress import Log, quiet
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.adaptation import adapt
from delf_ext.app.comparison import Comparison, compare
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.reranking import Request
from delf_ext.app.results import write_page, write_sheet
from delf_ext.app.training import resume, train
from delf_ext.app.training_settings import Settings
from delf_ext.evaluation.comparison import difference_line
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.recipes import demo, schema
from delf_ext.recipes.trunk_names import trunk_named
from delf_ext.reranking.chain import parse_chain
from delf_ext.runs.opening import open_model
from delf_ext.runs.run_directory import is_run
from delf_ext.runs.sources import CheckpointSource, ModelSource, RunSource, Runtime
from pretrained.lite_weights import package_file

DATA_NAME = "drawn products"
BASELINE = "baseline"
ZERO_SHOT = "zero-shot"
HEAD = "zero-shot + adapt"
DUAL = "dual head"
NUM_STEPS = 5
# The figures should not depend on the extras that are installed.
RUNTIME = Runtime("tensorflow")


@dataclass(frozen=True)
class Setup:
    """What the demo draws, trains and compares.

    Attributes:
        products: the drawing. The products of queries and gallery are not in the training images.
        recipe: of the dual head.
        zero_shot: a trunk as it is published, without training.
        baseline: arguments of the baseline's training.
        chains: re-ranking of the dual head.
        verification: geometric re-ranking of the dual head, which needs OpenCV.
    """

    products: DrawConfig = DrawConfig(
        num_classes=80, num_train=640, num_queries=80, num_gallery=400, image_size_px=128
    )
    recipe: schema.Recipe = demo.RECIPE
    zero_shot: CheckpointSource = CheckpointSource(
        "lite0", trunk_named("lite0/block7"), schema.Average(), size_px=128
    )
    baseline: Mapping[str, Any] = field(
        default_factory=lambda: {"epochs": 16, "batch_size": 32, "image_size": 64}
    )
    chains: tuple[str, ...] = ("aqe:3@3", "k_reciprocal:8,3,0.6")
    verification: str = "geometric:50"


SETUP = Setup()
"""Setup of `make demo`."""


@dataclass(frozen=True, eq=False)
class Demo:
    """Result of the demo.

    Attributes:
        comparison: the rows of the table; each difference is to the baseline.
        differences: lines with paired tests between other rows.
        page: the report, an HTML file.
        sheet: the picture of some queries and their results, a JPEG file.
    """

    comparison: Comparison
    differences: tuple[str, ...]
    page: Path
    sheet: Path

    def __str__(self) -> str:
        """Return the table and the lines below it."""
        return "\n".join([str(self.comparison), *self.differences])


def run_demo(out: Path, seed: int, setup: Setup, log: Log = quiet) -> Demo:
    """Draw products, train the dual head and the baseline on them, and compare.

    Args:
        out: folder for all results. A second call continues with the files there.
        seed: of the training and of the bootstrap. The drawing is always the same.
        setup: what to draw, train and compare.
        log: called with each line of the log.

    Returns:
        The comparison, the page and the picture.

    Raises:
        ValueError: the weights are not installed, or a folder of `out` has other files.
    """
    # Without the weights nothing is drawn and nothing is trained.
    package_file(setup.recipe.model.trunk.weights)
    folder = out / f"seed{seed}"
    with _step(1, "drawing products", log):
        data = load_dataset(draw_dataset(out / "products", setup.products))
    images = f"{len(data.train)} images of {setup.products.num_classes} products"
    with _step(2, f"training the challenge's Keras baseline on {images}", log):
        _train_baseline(data, folder / "baseline", seed, setup.baseline)
    with _step(3, "fitting a head on the trunk with its ImageNet weights", log):
        _fit_head(setup.zero_shot, data, folder / "head", seed, log)
    with _step(4, f"training the dual head on {images}", log):
        _train_dual_head(setup.recipe, data, folder / "dual", seed, log)
    sources: dict[str, ModelSource] = {
        BASELINE: RunSource(str(folder / "baseline")),
        ZERO_SHOT: setup.zero_shot,
        HEAD: RunSource(str(folder / "head")),
        DUAL: RunSource(str(folder / "dual")),
    }
    searching = (
        f"searching {len(data.gallery)} images for {len(data.query)} queries; "
        "their products are not in the training images"
    )
    with _step(5, searching, log):
        return _compare(sources, data, setup, folder, seed, log)


@contextmanager
def _step(number: int, about: str, log: Log) -> Iterator[None]:
    """Log what a step does, and how long it took."""
    log(f"{number}/{NUM_STEPS}  {about}")
    started_s = time.monotonic()
    yield
    log(f"step {number} took {time.monotonic() - started_s:.0f} s\n")


def _train_baseline(data: DataSet, run_dir: Path, seed: int, settings: Mapping[str, Any]) -> None:
    from baseline_keras.training import train as train_baseline
    from delf_ext.models.precision import set_mixed_precision

    # The official baseline of 2018 computed in float32.
    set_mixed_precision("off")
    train_baseline(data, run_dir, seed=seed, resume=is_run(run_dir), **settings)


def _fit_head(source: ModelSource, data: DataSet, run_dir: Path, seed: int, log: Log) -> None:
    if is_run(run_dir):
        log("the head is fitted already")
        return
    fitted = adapt(
        source,
        data,
        "unseen_classes",
        run_dir,
        runtime=RUNTIME,
        store=False,
        seed=seed,
        log=log,
    )
    log(fitted.verdict)


def _train_dual_head(
    recipe: schema.Recipe, data: DataSet, run_dir: Path, seed: int, log: Log
) -> None:
    if is_run(run_dir):
        resume(run_dir, data=data, log=log)
    else:
        train(recipe, data, run_dir, settings=Settings(seed=seed), log=log)


def _compare(
    sources: Mapping[str, ModelSource],
    data: DataSet,
    setup: Setup,
    folder: Path,
    seed: int,
    log: Log,
) -> Demo:
    models = [
        # The others would store embeddings outside of the folder.
        _renamed(open_model(source, RUNTIME, store=name in (BASELINE, DUAL), log=log), name)
        for name, source in sources.items()
    ]
    comparison = compare(
        models,
        data,
        request=_request(setup, log),
        reranked=(DUAL,),
        folder=folder / "local",
        seed=seed,
        data_name=DATA_NAME,
        log=log,
    )
    differences = tuple(_differences(comparison, seed))
    page = write_page(
        folder / "report" / "index.html",
        comparison.measured,
        data,
        DATA_NAME,
        seed,
        remarks=differences,
    )
    sheet = write_sheet(folder / "results.jpg", comparison.measured[-1], seed)
    return Demo(comparison, differences, page, sheet)


def _renamed(model: AnyEmbedder, name: str) -> AnyEmbedder:
    return dataclasses.replace(model, name=name)


def _request(setup: Setup, log: Log) -> Request:
    """Return the request for all chains; without OpenCV, those without verification."""
    chains: Sequence[str] = setup.chains
    if find_spec("cv2") is None:
        log('no geometric verification: it needs OpenCV (pip install -e ".[geometry]")')
    else:
        chains = (*chains, setup.verification)
    return Request(
        chains=tuple(parse_chain(chain) for chain in chains), local=LocalSettings(kinds=("sift",))
    )


def _differences(comparison: Comparison, seed: int) -> Iterator[str]:
    """Yield a paired test of each system and the one before, and of each chain and none."""
    results = [measured.evaluated for measured in comparison.measured]
    systems = [result for result in results if result.name in (ZERO_SHOT, HEAD, DUAL)]
    for before, after in zip(systems, systems[1:], strict=False):
        yield difference_line(after, before, seed)
    for reranked in results[results.index(systems[-1]) + 1 :]:
        yield difference_line(reranked, systems[-1], seed)
