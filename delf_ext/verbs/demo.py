"""demo: draws products, trains our network and the official baseline on the same images, compares them, as they are and
with their first candidates verified. No download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.progress import say
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.comparison import compare
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.reranking import Request
from delf_ext.app.results import write_page
from delf_ext.app.training import resume, train
from delf_ext.app.training_settings import Settings
from delf_ext.recipes import demo
from delf_ext.reranking.chain import parse_chain
from delf_ext.runs.opening import open_model
from delf_ext.runs.run_directory import is_run
from delf_ext.runs.sources import RunSource

PRODUCTS = DrawConfig(
    num_classes=80, num_train=800, num_queries=60, num_gallery=300, image_size_px=128
)
BASELINE: dict[str, Any] = {"epochs": 16, "batch_size": 32, "image_size": demo.RECIPE.input.size_px}
VERIFIED = "geometric:50"


def run(flags: Any) -> None:
    """Everything is kept in --out (.demo); what is there already is used again, so a stopped demo continues."""
    out = Path(flags.out or ".demo")
    say("1/4  drawing products")
    data = load_dataset(draw_dataset(out / "products", PRODUCTS))
    folder = out / f"seed{flags.seed}"
    say(
        f"\n2/4  training our network on {len(data.train)} images of {PRODUCTS.num_classes} products, from random weights"
    )
    _train_ours(data, folder / "ours", flags.seed)
    say("\n3/4  training the challenge's Keras baseline on the same images")
    _train_baseline(data, folder / "baseline", flags.seed)
    say(
        f"\n4/4  ranking {len(data.gallery)} photographs of products that neither has seen, for {len(data.query)} queries"
    )
    models = [open_model(RunSource(str(folder / name)), log=say) for name in ("baseline", "ours")]
    found = compare(
        models,
        data,
        request=_verified(),
        folder=folder / "local",
        seed=flags.seed,
        data_name="drawn products",
        log=say,
    )
    say(f"\n{found}")
    page = write_page(
        folder / "report" / "index.html", found.measured, data, "drawn products", flags.seed
    )
    say(f"report: {page.absolute()}")


def _verified() -> Request:
    """Return the request to verify the first candidates by SIFT, which needs no training; nothing without OpenCV."""
    from importlib.util import find_spec

    if find_spec("cv2") is None:
        say("without geometric verification: it needs OpenCV")
        return Request(chains=())
    return Request(chains=(parse_chain(VERIFIED),), local=LocalSettings(kinds=("sift",)))


def _train_ours(data: DataSet, run_dir: Path, seed: int) -> None:
    started = time.monotonic()
    if is_run(run_dir):
        resume(run_dir, data=data, log=say)
    else:
        train(demo.RECIPE, data, run_dir, settings=Settings(seed=seed), log=say)
    say(f"took {time.monotonic() - started:.0f} s")


def _train_baseline(data: DataSet, run_dir: Path, seed: int) -> None:
    from baseline_keras.training import train as train_baseline
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision("off")  # the baseline is measured as it was
    started = time.monotonic()
    train_baseline(data, run_dir, seed=seed, resume=is_run(run_dir), **BASELINE)
    say(f"took {time.monotonic() - started:.0f} s")
