"""Test the claim of the Lotte winner on drawn photographs: does validation predict the test?

    python benchmarks/lotte_claim.py [--out=.claim] [--classes=24] [--test_views=24] [--seeds=3]
        [--epochs=8] [--shifts 0 0.3 0.6] [--size=64] [--json=lotte_claim.json]

The claim: cross-entropy scores .99 on validation photographs, which are taken like the training
photographs, and .75 on the test, whose photographs are taken in another way; features trained with
ArcFace and a vote of the nearest training photographs solve that.

Three networks are trained on the same photographs, with the same trunk (EfficientNet-Lite0 up to
block5, ImageNet weights), augmentation, optimizer and number of epochs: with cross-entropy on an
average pool, with cross-entropy on GeM, linear layer, batch norm and PReLU, and with ArcFace on
these. Each one labels by its softmax, by a vote of the 5 nearest photographs (similarity^9), and by
the winner's vote (similarity^9 x logit^10): so one sees which part of the system matters. Each
shift is a set of test photographs of the same products; 0 is taken like training.

The unit of all intervals and tests is the product: photographs of one product resemble each other.
A second call continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from measuring import build_parser, write_results
from scipy.stats import kendalltau
from tabulate import tabulate

import delf_ext as mandoo
from data_io.datasets import DataSet, load_dataset
from data_io.records import ImageList
from data_io.synthetic.dataset import LotteConfig, draw_dataset
from delf_ext.app.classification import Request
from delf_ext.app.training_settings import Settings
from delf_ext.evaluation.intervals import paired_bootstrap, score_interval
from delf_ext.recipes import schema
from delf_ext.recipes.label_parts import Labelling

SEED = 0
BATCH_SIZE = 32
FOLDS = 5
FROZEN = ("trunk/stem", "trunk/block1", "trunk/block2", "trunk/block3")
TRUNK = schema.Trunk(
    "efficientnet_lite0", "lite", "block5", weights="lite0", batch_norm="inference", frozen=FROZEN
)
GEM_AND_NECK = schema.Head(
    "main",
    schema.Gem(3.0, trainable=True),
    (schema.Dense(512, "prelu", "batch"),),
    schema.Cosine(),
)
PLAIN = "cross-entropy"
SAME_HEAD = "cross-entropy, head of ArcFace"
ARCFACE = "ArcFace"
SYSTEMS = {
    PLAIN: (schema.Head("main", classifier=schema.Linear()), schema.SoftmaxCrossEntropy()),
    SAME_HEAD: (
        dataclasses.replace(GEM_AND_NECK, classifier=schema.Linear()),
        schema.SoftmaxCrossEntropy(),
    ),
    ARCFACE: (GEM_AND_NECK, schema.ArcFace(45.0, 0.4, class_weights="log")),
}
RULES = {
    "softmax": Labelling("softmax"),
    "vote": Labelling("vote", schema.LabelVote(5, 9.0, 0.0)),
    "winner's vote": Labelling("lotte", schema.LabelVote(5, 9.0, 10.0)),
}
VALIDATION = "validation"
NEAR = 0.03
Scores = dict[tuple[str, str, str], np.ndarray]
"""(system, rule, set) -> share of right labels of each product, [C]; mean over the seeds."""


def recipe_of(system: str, fold: int, size_px: int, epochs: int) -> schema.Recipe:
    """Return the recipe of one network; networks differ in head and loss only."""
    head, loss = SYSTEMS[system]
    factors = (schema.RateFactor("main", 10.0),)
    return schema.Recipe(
        name=system,
        model=schema.Model(TRUNK, (head,)),
        losses=(schema.LossTerm(loss),),
        optimizer=schema.AdamW(3e-4, factors),
        stages=(schema.Stage(epochs, schema.CosineDecay()),),
        input=schema.Input(
            size_px, (schema.MirrorLeftRight(), schema.ShiftScaleRotate(), schema.Cutout())
        ),
        sampling=schema.Shuffled(BATCH_SIZE),
        # Validation is measured once, after the training; it chooses nothing.
        validation=schema.StratifiedFolds(1_000_000, folds=FOLDS, fold=fold),
    )


def trained(recipe: schema.Recipe, data: DataSet, path: Path, run_dir: Path, seed: int) -> Path:
    """Train a network, or continue its run."""
    if (run_dir / "recipe.json").exists():
        mandoo.resume(run_dir, data=data, log=print)
    else:
        settings = Settings(seed=seed)
        mandoo.train(recipe, data, run_dir, data_path=str(path), settings=settings, log=print)
    return run_dir


def right_labels(
    run_dir: Path, sets: Mapping[str, DataSet]
) -> Iterator[tuple[str, str, ImageList, np.ndarray]]:
    """Yield (rule, set, photographs, bool [Q] right) of a trained network."""
    model = mandoo.open_model(run_dir)
    for name, data in sets.items():
        for rule, labelling in RULES.items():
            result = mandoo.classify(model, data, request=Request(like=labelling))
            yield rule, name, result.images, result.labels.labels[:, 0] == result.images.labels


def without_queries(data: DataSet) -> DataSet:
    """Return the training images alone: a run then labels those that it held out."""
    none = data.train.take(np.zeros(len(data.train), bool))
    return dataclasses.replace(data, query=none, gallery=none)


def measured(options: argparse.Namespace) -> Scores:
    """Draw the photographs, train all networks, and return their scores."""
    out = Path(options.out)
    sets: dict[str, DataSet] = {}
    for shift in options.shifts:
        config = LotteConfig(
            options.classes,
            test_per_class=options.test_views,
            image_size_px=options.size,
            shift=shift,
            seed=SEED,
        )
        sets[f"test, shift {shift:g}"] = load_dataset(draw_dataset(out / f"shift{shift:g}", config))
    path = out / f"shift{options.shifts[-1]:g}"
    data = load_dataset(path)
    sets = {VALIDATION: without_queries(data), **sets}
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    for seed in range(options.seeds):
        for system in SYSTEMS:
            recipe = recipe_of(system, seed % FOLDS, options.size, options.epochs)
            run_dir = out / f"seed{seed}" / re.sub(r"\W+", "_", system)
            run_dir = trained(recipe, data, path.absolute(), run_dir, seed)
            for rule, name, images, is_right in right_labels(run_dir, sets):
                shares = np.bincount(images.labels, is_right) / np.bincount(images.labels)
                key = (system, rule, name)
                sums[key] = sums.get(key, 0.0) + shares / options.seeds
    return sums


def table_of(scores: Scores) -> str:
    """Return the share of right labels of each system and rule on each set, with intervals."""
    sets = list(dict.fromkeys(name for _, _, name in scores))
    rows = []
    for system in SYSTEMS:
        for rule in RULES:
            cells = []
            for name in sets:
                values = scores[system, rule, name]
                low, high = score_interval(values, SEED)
                cells.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}]")
            rows.append([system, rule, *cells])
    return tabulate(rows, ["trained with", "label by", *sets])


def difference(about: str, a: np.ndarray, b: np.ndarray) -> str:
    """Return a line with the paired test of two rows over the same products."""
    test = paired_bootstrap(a, b, SEED)
    return (
        f"  {about}: {test.mean:+.3f} [{test.low:+.3f}, {test.high:+.3f}], p = {test.p_value:.4f}"
    )


def verdict(scores: Scores, name: str) -> Iterator[str]:
    """Yield what the scores of one test set say about the claim."""
    plain, whole = (PLAIN, "softmax"), (ARCFACE, "winner's vote")
    yield name
    for about, a, b in (
        ("the winner's system - cross-entropy and softmax", whole, plain),
        ("head alone: GeM and neck - average, both softmax", (SAME_HEAD, "softmax"), plain),
        (
            "loss alone: ArcFace - softmax loss, same head",
            (ARCFACE, "softmax"),
            (SAME_HEAD, "softmax"),
        ),
        ("rule alone: vote - softmax, both cross-entropy", (PLAIN, "vote"), plain),
        ("rule alone: winner's vote - softmax, both ArcFace", whole, (ARCFACE, "softmax")),
    ):
        yield difference(about, scores[(*a, name)], scores[(*b, name)])
    for pair in (plain, whole):
        values = scores[(*pair, VALIDATION)], scores[(*pair, name)]
        yield difference(f"validation - test, {' + '.join(pair)}", *values)
    pairs = [(system, rule) for system in SYSTEMS for rule in RULES]
    means = [[scores[(*pair, one)].mean() for pair in pairs] for one in (VALIDATION, name)]
    tau = kendalltau(*means).statistic
    yield f"  order of the {len(pairs)} rows by validation and by test: Kendall's tau {tau:.2f}"


def predicted(scores: Scores, name: str) -> bool:
    """Return whether validation and test differ by less than NEAR in each row."""
    rows = [(system, rule) for system in SYSTEMS for rule in RULES]
    gaps = [scores[(*row, VALIDATION)].mean() - scores[(*row, name)].mean() for row in rows]
    return max(map(abs, gaps)) < NEAR


def main() -> None:
    """Measure, print the table and what it says, and write the results."""
    parser = build_parser(__doc__, rounds=1)
    parser.add_argument("--out", default=".claim", help="folder; a second call continues there")
    parser.add_argument("--classes", type=int, default=24, help="products (default: 24)")
    parser.add_argument("--test_views", type=int, default=24, help="test photographs of a product")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a training")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0, 0.3, 0.6])
    options = parser.parse_args()
    scores = measured(options)
    print(table_of(scores))
    for name in dict.fromkeys(name for _, _, name in scores if name != VALIDATION):
        print("\n".join(verdict(scores, name)))
        answer = "yes" if predicted(scores, name) else "no"
        print(f"  validation predicts this test (within {NEAR:g} in each row): {answer}")
    results = {" / ".join(key): values.tolist() for key, values in scores.items()}
    write_results(options.json, SEED, results, **{**vars(options), "json": None})


if __name__ == "__main__":
    main()
