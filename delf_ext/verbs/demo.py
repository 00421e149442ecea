"""Train our network and the challenge's baseline on drawn products, and compare them.

Needs no download. With OpenCV, both are also compared after geometric verification.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.messages import shown_path
from data_io.progress import say
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.comparison import compare
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.reranking import Request
from delf_ext.app.results import write_page, write_sheet
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
VERIFICATION = "geometric:50"


def run(flags: Any) -> None:
    """Run the demo in --out (default: .demo). A second call continues with the files there."""
    out = Path(flags.out or ".demo")
    say("1/4  drawing products")
    data = load_dataset(draw_dataset(out / "products", PRODUCTS))
    folder = out / f"seed{flags.seed}"
    say(
        f"\n2/4  training our network on {len(data.train)} images of {PRODUCTS.num_classes} "
        "products, from random weights"
    )
    _train_ours(data, folder / "ours", flags.seed)
    say("\n3/4  training the challenge's Keras baseline on the same images")
    _train_baseline(data, folder / "baseline", flags.seed)
    say(
        f"\n4/4  ranking {len(data.gallery)} images for {len(data.query)} queries; "
        "their products are not in the training images"
    )
    models = [open_model(RunSource(str(folder / name)), log=say) for name in ("baseline", "ours")]
    comparison = compare(
        models,
        data,
        request=_request(),
        folder=folder / "local",
        seed=flags.seed,
        data_name="drawn products",
        log=say,
    )
    say(f"\n{comparison}")
    page = write_page(
        folder / "report" / "index.html", comparison.measured, data, "drawn products", flags.seed
    )
    say(f"report: {shown_path(page)}")
    sheet = write_sheet(folder / "results.jpg", comparison.measured[-1], flags.seed)
    say(f"picture: {shown_path(sheet)}")


def _request() -> Request:
    """Return the request to verify the first candidates with SIFT; without OpenCV, an empty one."""
    if find_spec("cv2") is None:
        say('no geometric verification: it needs OpenCV (pip install -e ".[geometry]")')
        return Request(chains=())
    return Request(chains=(parse_chain(VERIFICATION),), local=LocalSettings(kinds=("sift",)))


def _train_ours(data: DataSet, run_dir: Path, seed: int) -> None:
    started_s = time.monotonic()
    if is_run(run_dir):
        resume(run_dir, data=data, log=say)
    else:
        train(demo.RECIPE, data, run_dir, settings=Settings(seed=seed), log=say)
    say(f"took {time.monotonic() - started_s:.0f} s")


def _train_baseline(data: DataSet, run_dir: Path, seed: int) -> None:
    from baseline_keras.training import train as train_baseline
    from delf_ext.models.precision import set_mixed_precision

    # The official baseline of 2018 computed in float32.
    set_mixed_precision("off")
    started_s = time.monotonic()
    train_baseline(data, run_dir, seed=seed, resume=is_run(run_dir), **BASELINE)
    say(f"took {time.monotonic() - started_s:.0f} s")
