"""Measures what the goldens hold, of the engine in `engine.py` and of the retrieval behind it."""

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
    """Loads a file beside this one: pytest imports these files without making a package of them."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"goldens_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


engine, inputs = sibling("engine"), sibling("inputs")

FOLDER = Path(__file__).parent
STEPS = 3
TRAINED_END_POINT, TRAINED_PX = "resnet_v1_50/block1/unit_1/bottleneck_v1", 32
ZERO_SHOT_END_POINT, ZERO_SHOT_PX = "resnet_v1_50/block1", 64
POOLINGS = ("avg", "gem", "attention")
DIRECTIONS = 4  # on which an embedding is projected
PLACES = 20  # of a ranking that are kept
PRODUCTS = DrawConfig(12, 60, 12, 36, 64, seed=0)
LARGE_PRODUCTS = DrawConfig(4, 4, 8, 20, 192, seed=0)  # SIFT finds little in smaller ones


def trained(flags: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Trains a network for three steps.

    Returns {"losses": {name: value of each step}, "changes": {role: summary}}. A summary is of the
    weights now minus the weights then. That of the weights themselves would hardly tell an engine
    that trains from one that does not: they are hundreds of times longer than what three steps
    change.
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
    """Lists role and shape of every variable that these flags make."""
    built = engine.build(flags, num_classes, TRAINED_END_POINT)
    return [(role, tuple(variable.shape)) for role, variable in built.variables.items()]


def zero_shot_shapes() -> list[tuple[str, tuple[int, ...]]]:
    """Lists role and shape of every variable of the zero-shot trunk."""
    return list(engine.zero_shot_shapes(ZERO_SHOT_END_POINT).items())


def zero_shot_embeddings(pooling: str) -> list[list[float]]:
    """Embeds one batch: per image its projections on four directions."""
    images, _ = inputs.batch(0, ZERO_SHOT_PX)
    embeddings = engine.zero_shot(ZERO_SHOT_END_POINT, pooling, ZERO_SHOT_PX).embed(images)
    names = [f"embedding/{number}" for number in range(DIRECTIONS)]
    return [[inputs.summary(name, embedding)[0] for name in names] for embedding in embeddings]


def zero_shot_metrics(folder: Path) -> dict[str, float]:
    """Scores averaged features on products drawn into `folder`."""
    data = load_dataset(draw_dataset(folder, PRODUCTS, progress=False, workers=1))
    model = engine.zero_shot(ZERO_SHOT_END_POINT, "avg", ZERO_SHOT_PX)
    retrieval = embed(model, data.query, data.gallery, batch_size=16)
    return dict(summarize(score(retrieval, truth_of(retrieval))))


def clustered() -> tuple[GlobalFeatures, GlobalFeatures]:
    """Draws 40 queries and 160 gallery images of 16 clusters that overlap a little, 32-d."""
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
    """Ranks the clustered embeddings, then re-ranks them by a chain as --method takes it.

    Returns the first places of each query, {"rows": [Q, PLACES], "scores": [Q, PLACES]}.
    """
    query, gallery = clustered()
    ranking = run_chain(parse_chain(chain), query, gallery, search(query, gallery, None))
    return {
        "rows": ranking.rows[:, :PLACES].tolist(),
        "scores": ranking.scores[:, :PLACES].astype(float).tolist(),
    }


def verified(folder: Path) -> list[list[int]]:
    """Re-ranks drawn photographs by RootSIFT alone, from a random ranking.

    Raises: ValueError when OpenCV is missing.
    """
    from delf_ext.features.local.sift import SiftExtractor  # OpenCV is not needed for the rest

    data = load_dataset(
        draw_dataset(folder / "products", LARGE_PRODUCTS, progress=False, workers=1)
    )
    query, gallery = (
        extract_local(SiftExtractor(), part, folder / name)
        for part, name in ((data.query, "query"), (data.gallery, "gallery"))
    )
    rng, shape = np.random.default_rng(6), (len(data.query), len(data.gallery))
    rows = np.stack([rng.permutation(shape[1]) for _ in range(shape[0])])
    scores = np.linspace(1, 0, shape[1], dtype=np.float32)[None].repeat(shape[0], axis=0)
    ranking, _ = rerank_geometric(
        Ranking(data.query.ids, data.gallery.ids, rows, scores), query, gallery
    )
    return ranking.rows.tolist()


def digest(of_shapes: Sequence[Sequence[Any]], size_px: int, steps: int) -> str:
    """Digests the weights of these shapes and the first batches of this size."""
    return inputs.digest(of_shapes, [(step, size_px) for step in range(steps)])
