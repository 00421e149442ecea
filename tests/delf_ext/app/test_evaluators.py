"""Test the evaluators of recipe tasks."""

from __future__ import annotations

import numpy as np
import pytest

from data_io.datasets import DataSet
from delf_ext.app.evaluation import evaluate
from delf_ext.app.evaluators import build_evaluator
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble
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


@pytest.mark.parametrize("task", [schema.Classification(), schema.LabelPaths()])
def test_task_without_evaluator_is_refused(data: DataSet, task: schema.Task) -> None:
    with pytest.raises(UsageError) as caught:
        build_evaluator(task, data.query, data.gallery, 4)
    assert str(caught.value) == f"{type(task).__name__} is not built yet. Built: Retrieval."
