"""demo: draws products, trains our network and the official baseline on the same images, compares them, as they are and with
their first candidates verified. No download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.synthetic import DrawConfig, draw_dataset
from delf_ext.config import LossConfig, ModelConfig, RunConfig, TrainConfig
from delf_ext.verbs.compare import compare_systems
from delf_ext.verbs.methods import Chain, Request, Reranker
from delf_ext.verbs.systems import load_run
from delf_ext.verbs.train import train_run

# Sized for two cores and random weights: a trunk cut after block1, which many epochs fit into. What it learns of 72 products
# carries over to others best as it is pooled for the classifier: a similarity branch trained on so few fits them alone.
PRODUCTS = DrawConfig(num_classes=80, num_train=800, num_queries=60, num_gallery=300, image_size_px=128)
IMAGE_SIZE = 64
DUAL_HEAD = RunConfig(
    model=ModelConfig(endpoint="resnet_v1_50/block1", image_size=IMAGE_SIZE, batch_norm_decay=0.9, similarity_head=False),
    loss=LossConfig(train_logits=True),
    training=TrainConfig(epochs=28, batch_size=32, lr=1e-3, lr_schedule="cosine", augmentation=("crop", "fliplr")),
)
BASELINE: dict[str, Any] = {"epochs": 16, "batch_size": 32, "image_size": IMAGE_SIZE}


def run(flags: Any) -> None:
    """Everything lands in --out (.demo); what is there already is used again, so a stopped demo continues."""
    out = Path(flags.out or ".demo")
    print("1/4  drawing products")
    data = load_dataset(draw_dataset(out / "products", PRODUCTS))
    folder = out / f"seed{flags.seed}"
    print(f"\n2/4  training our network on {len(data.train)} images of {PRODUCTS.num_classes} products, from random weights")
    _train_dual_head(data, out / "products", folder / "dual_head", flags.seed)
    print("\n3/4  training the challenge's Keras baseline on the same images")
    _train_baseline(data, folder / "keras_baseline", flags.seed)
    print(f"\n4/4  ranking {len(data.gallery)} photographs of products that neither has seen, for {len(data.query)} queries")
    systems = [load_run(folder / "keras_baseline"), load_run(folder / "dual_head")]
    page = folder / "report" / "index.html"
    compare_systems(systems, data, "drawn products", page, flags.seed, BASELINE["batch_size"], _verified(flags, data, folder))


def _verified(flags: Any, data: DataSet, folder: Path) -> list[tuple[Chain, Reranker]]:
    """Each system once more with its first candidates verified by SIFT, which needs no training; nothing without OpenCV."""
    flags.method, flags.local_features = "geometric:50", "sift"
    request = Request.of(flags)
    try:
        return [(chain, Reranker(flags, request, data.gallery, folder / "local")) for chain in request.chains]
    except ValueError as error:
        print(f"without geometric verification: {error}")
        return []


def _train_dual_head(data: DataSet, path: Path, run_dir: Path, seed: int) -> None:
    started = time.monotonic()
    config = RunConfig(**{**vars(DUAL_HEAD), "data": str(path.absolute()), "seed": seed})
    train_run(config, data, run_dir, resume=(run_dir / "config.json").exists(), evaluate=False)
    print(f"took {time.monotonic() - started:.0f} s")


def _train_baseline(data: DataSet, run_dir: Path, seed: int) -> None:
    from baseline_keras.training import train
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision("off")  # the baseline is measured as it was
    started = time.monotonic()
    train(data, run_dir, seed=seed, resume=(run_dir / "config.json").exists(), **BASELINE)
    print(f"took {time.monotonic() - started:.0f} s")
