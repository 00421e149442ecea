"""Measure the values of the goldens: training, embeddings, metrics, rankings."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from data_io.datasets import load_dataset
from data_io.records import GlobalFeatures, Ranking
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.evaluation.metrics import summarize
from delf_ext.features.local.extraction import extract_local
from delf_ext.index.exact import search
from delf_ext.pipeline import embed, score, truth_of
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.geometric import rerank_geometric


def sibling(name: str) -> ModuleType:
    """Load a file of this folder. The folder is no package, so `import` does not find it."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"goldens_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


engine = sibling("engine")
inputs = sibling("inputs")

FOLDER = Path(__file__).parent
STEPS = 3
TRAINED_END_POINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TRAINED_PX = 32
ZERO_SHOT_END_POINT = "resnet_v1_50/block1"
ZERO_SHOT_PX = 64
POOLINGS = ("avg", "gem", "attention")
# An embedding is stored as its projections on this many random directions.
NUM_DIRECTIONS = 4
# Number of places of a ranking that are stored.
NUM_PLACES = 20
PRODUCTS = DrawConfig(12, 60, 12, 36, 64, seed=0)
# SIFT finds few keypoints in smaller images.
LARGE_PRODUCTS = DrawConfig(4, 4, 8, 20, 192, seed=0)


def trained(flags: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Train a network for three steps.

    Args:
        flags: of the original's command line.
        num_classes: number of classes.

    Returns:
        {"losses": {name: value of each step}, "changes": {role: summary}}. A summary is of the
        weights after training minus the weights before. A summary of the weights alone would
        hardly differ from that of untrained weights: they are hundreds of times longer than the
        change of three steps.
    """
    built = engine.build(flags, num_classes, TRAINED_END_POINT)
    step = built.heads_step if flags.get("freeze_backbone") else built.step
    losses = [step(*inputs.batch(number, TRAINED_PX)) for number in range(STEPS)]
    changes = {
        role: inputs.summary(role, variable.numpy() - inputs.initial(role, variable.shape))
        for role, variable in sorted(built.variables.items())
    }
    return {
        "losses": {name: [values[name] for values in losses] for name in losses[0]},
        "changes": changes,
    }


def shapes(flags: Mapping[str, Any], num_classes: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return (role, shape) of each variable of the network that the flags describe."""
    built = engine.build(flags, num_classes, TRAINED_END_POINT)
    return [(role, tuple(variable.shape)) for role, variable in built.variables.items()]


def zero_shot_shapes() -> list[tuple[str, tuple[int, ...]]]:
    """Return (role, shape) of each variable of the untrained trunk."""
    return list(engine.zero_shot_shapes(ZERO_SHOT_END_POINT).items())


def zero_shot_embeddings(pooling: str) -> list[list[float]]:
    """Embed one batch; return for each image the projections on NUM_DIRECTIONS directions."""
    images, _ = inputs.batch(0, ZERO_SHOT_PX)
    embeddings = engine.zero_shot(ZERO_SHOT_END_POINT, pooling, ZERO_SHOT_PX).embed(images)
    names = [f"embedding/{number}" for number in range(NUM_DIRECTIONS)]
    return [[inputs.summary(name, embedding)[0] for name in names] for embedding in embeddings]


def zero_shot_metrics(folder: Path) -> dict[str, float]:
    """Measure an untrained trunk with average pooling on products drawn into `folder`."""
    data = load_dataset(draw_dataset(folder, PRODUCTS, progress=False, workers=1))
    model = engine.zero_shot(ZERO_SHOT_END_POINT, "avg", ZERO_SHOT_PX)
    retrieval = embed(model, data.query, data.gallery, batch_size=16)
    return dict(summarize(score(retrieval, truth_of(retrieval))))


def clustered() -> tuple[GlobalFeatures, GlobalFeatures]:
    """Draw 40 query and 160 gallery embeddings [N, 32] of 16 clusters that overlap a little."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((16, 32))

    def drawn(count: int, prefix: str) -> GlobalFeatures:
        vectors = centres[rng.integers(0, len(centres), count)] + 0.9 * rng.standard_normal(
            (count, 32)
        )
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = np.array([f"{prefix}{row}" for row in range(count)])
        return GlobalFeatures(ids, vectors.astype(np.float32))

    return drawn(40, "q"), drawn(160, "g")


def reranked(chain: str) -> dict[str, list]:
    """Rank the clustered embeddings and re-rank them.

    Args:
        chain: value of --method.

    Returns:
        The first places of each query, {"rows": [Q, NUM_PLACES], "scores": [Q, NUM_PLACES]}.
    """
    query, gallery = clustered()
    ranking = run_chain(parse_chain(chain), query, gallery, search(query, gallery, None))
    return {
        "rows": ranking.rows[:, :NUM_PLACES].tolist(),
        "scores": ranking.scores[:, :NUM_PLACES].astype(float).tolist(),
    }


def verified(folder: Path) -> list[list[int]]:
    """Re-rank a random ranking of drawn images with RootSIFT.

    Args:
        folder: for the images and the local features.

    Returns:
        Gallery rows [Q, N], best first.

    Raises:
        ValueError: if OpenCV is missing.
    """
    from delf_ext.features.local.sift import SiftExtractor

    data = load_dataset(
        draw_dataset(folder / "products", LARGE_PRODUCTS, progress=False, workers=1)
    )
    query, gallery = (
        extract_local(SiftExtractor(), part, folder / name)
        for part, name in ((data.query, "query"), (data.gallery, "gallery"))
    )
    rng = np.random.default_rng(6)
    shape = (len(data.query), len(data.gallery))
    rows = np.stack([rng.permutation(shape[1]) for _ in range(shape[0])])
    scores = np.linspace(1, 0, shape[1], dtype=np.float32)[None].repeat(shape[0], axis=0)
    ranking, _ = rerank_geometric(
        Ranking(data.query.ids, data.gallery.ids, rows, scores), query, gallery
    )
    return ranking.rows.tolist()


def digest(of_shapes: Sequence[Sequence[Any]], size_px: int, steps: int) -> str:
    """Return a digest of the weights of these shapes and of the first batches of this size."""
    return inputs.digest(of_shapes, [(step, size_px) for step in range(steps)])
