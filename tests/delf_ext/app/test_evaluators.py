"""Test the evaluators of recipe tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_io.datasets import DataSet
from delf_ext.app.evaluation import evaluate
from delf_ext.app.evaluators import build_evaluator, require_evaluator
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.extraction import extract_global
from delf_ext.recipes import schema


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) - 127.0


COLOUR = Embedder("colour", 32, "v1", mean_colour)


def test_retrieval_evaluator_yields_the_metrics_of_evaluate(data: DataSet) -> None:
    evaluator = build_evaluator(schema.Retrieval("recall_at_1"), data.query, data.gallery, 4)
    metrics = dict(evaluator(COLOUR))
    expected = evaluate(COLOUR, data).figures["metrics"]
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_equal(metrics[name], value, err_msg=name)


def test_ensemble_is_evaluated_like_a_model(data: DataSet) -> None:
    evaluator = build_evaluator(schema.Retrieval(), data.query, data.gallery, 4)
    twice = Ensemble("twice", (COLOUR, COLOUR), schema.Concatenate())
    assert dict(evaluator(twice))["mAP"] == pytest.approx(dict(evaluator(COLOUR))["mAP"])


def test_task_without_evaluator_is_refused(data: DataSet) -> None:
    with pytest.raises(UsageError) as caught:
        build_evaluator(schema.LabelPaths(), data.query, data.gallery, 4)
    built = "Built: Classification, Retrieval."
    assert str(caught.value) == f"LabelPaths is not built yet. {built}"


def test_classification_measures_the_softmax_of_the_queries(several: DataSet) -> None:
    """The classifier has its own order of classes, and lacks the last one."""
    query = several.query
    labels = query.known_labels("a test")
    present = np.unique(labels)
    names = tuple(several.class_names[label] for label in present[:-1][::-1])
    column_of = {label: place for place, label in enumerate(present[:-1][::-1])}
    logits = np.zeros((len(query), len(names)), np.float32)
    for row, label in enumerate(labels):
        logits[row, column_of.get(label, 0)] = 3.0 + row

    def rows(images: np.ndarray) -> np.ndarray:
        # All queries come in one batch, in their order; the rest of the batch is black.
        return np.concatenate([mean_colour(images[: len(query)]) + 1, logits], axis=1)

    longer = Embedder("softmax", 32, "v1-logits", rows, logit_names=names)
    model = dataclasses.replace(COLOUR, with_logits=longer)
    evaluator = build_evaluator(
        schema.Classification(), query, several.gallery, len(query), several.class_names
    )
    metrics = dict(evaluator(model))
    is_known = np.isin(labels, present[:-1])
    assert metrics["accuracy"] == pytest.approx(is_known.mean())
    assert 0 < metrics["gap"] <= 1 and metrics.keys() == {"accuracy", "macro_f1", "gap", "ece"}


def test_classification_without_classifier_measures_class_centres(several: DataSet) -> None:
    evaluator = build_evaluator(
        schema.Classification(), several.query, several.gallery, 4, several.class_names
    )
    metrics = dict(evaluator(COLOUR))
    query = extract_global(COLOUR, several.query)[0].embeddings
    gallery = extract_global(COLOUR, several.gallery)[0].embeddings
    labels = several.gallery.known_labels("a test")
    centres = np.stack([gallery[labels == one].mean(axis=0) for one in np.unique(labels)])
    cosines = query @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    found = np.unique(labels)[cosines.argmax(axis=1)]
    expected = np.mean(found == several.query.known_labels("a test"))
    assert metrics["accuracy"] == pytest.approx(expected)


def test_classification_with_other_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="validation ClassBlock holds whole classes back: set"):
        require_evaluator(schema.Classification(), schema.ClassBlock())
    require_evaluator(schema.Classification(), schema.StratifiedFolds())
    require_evaluator(schema.Classification(), schema.Given())
    with pytest.raises(UsageError, match="select_by"):
        schema.Classification("precision")
