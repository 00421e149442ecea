"""Test the comparison of models and chains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from data_io.datasets import DataSet
from delf_ext.app.comparison import compare
from delf_ext.app.evaluation import evaluate
from delf_ext.app.reranking import Request
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble, HeldBack
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Concatenate, Recipe
from delf_ext.reranking.chain import parse_chain

SIZE_PX = 32


CHAIN = parse_chain("aqe:1")


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) - 127.0


COLOUR = Embedder("colour", SIZE_PX, "v1", mean_colour)


def spread(images: np.ndarray) -> np.ndarray:
    return images.std(axis=(1, 2))


SPREAD = Embedder("spread", SIZE_PX, "v2", spread)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


def held_back(model: Embedder, validation: schema.Validation, seed: int, *names: str) -> Embedder:
    return dataclasses.replace(model, held_back=HeldBack(validation, seed, names))


def test_models_that_held_back_different_images_need_data_with_queries(
    tiny: Recipe,
    only_train: DataSet,
    data: DataSet,
) -> None:
    assert tiny.validation is not None
    one, other = (held_back(COLOUR, tiny.validation, 3, name) for name in "ab")
    message = (
        f"{only_train.name}: the models held back different images (classes a; classes b), so "
        "each image was trained on by one of them; evaluate them on data that has its own queries."
    )
    assert refusal(lambda: compare([one, other], only_train)) == message
    ensemble = Ensemble("both", (one, other), Concatenate())
    assert "held back different images" in refusal(lambda: evaluate(ensemble, only_train))
    assert len(compare([one, other], data).rows) == 2
    assert len(compare([one, SPREAD], only_train).rows) == 2


def test_each_model_is_released_before_the_next_is_measured(data: DataSet) -> None:
    events: list[str] = []

    def recorded(name: str) -> Embedder:
        def embed(images: np.ndarray) -> np.ndarray:
            events.append(name)
            return mean_colour(images)

        return Embedder(name, SIZE_PX, name, embed, release=lambda: events.append(f"-{name}"))

    ensemble = Ensemble("both", (recorded("b"), recorded("c")), Concatenate())
    compare([recorded("a"), ensemble], data)
    assert list(dict.fromkeys(events)) == ["a", "-a", "b", "c", "-b", "-c"]
    assert events[-2:] == ["-b", "-c"]


def test_compare_gives_the_figures_of_evaluate_and_differences(several: DataSet) -> None:
    result = compare([COLOUR, SPREAD], several, seed=2)
    alone = [evaluate(model, several, seed=2).figures for model in (COLOUR, SPREAD)]
    assert result.figures == alone and [row.name for row in result.rows] == ["colour", "spread"]
    first, second = result.rows
    assert first.difference is None and second.difference is not None
    gap = alone[1]["mAP"] - alone[0]["mAP"]
    assert second.difference.mean == pytest.approx(gap)
    assert str(result).splitlines()[0].split()[:2] == ["mAP", "95"] and "6 queries scored." in str(
        result,
    )


def test_compare_measures_each_model_with_each_chain(several: DataSet) -> None:
    chains = ((), CHAIN, parse_chain("dba:2"))
    result = compare([COLOUR, SPREAD], several, request=Request(chains=chains))
    names = [row["model"] for row in result.figures]
    own = ["", " + aqe:1@0", " + dba:2@0"]
    assert names == [f"{model}{chain}" for model in ("colour", "spread") for chain in own]
    evaluated = evaluate(COLOUR, several, request=Request(chains=(CHAIN,)))
    assert result.figures[1] == evaluated.figures


def test_compare_refuses_one_model_without_a_chain(several: DataSet) -> None:
    message = (
        "compare needs two models, or one model and a re-ranking method "
        "(--runs=RUN,RUN, --pretrained_model, --method)."
    )
    for request in (None, Request(), Request(chains=((),))):
        with pytest.raises(UsageError) as caught:
            compare([COLOUR], several, request=request)
        assert str(caught.value) == message
    assert len(compare([COLOUR], several, request=Request(chains=(CHAIN,))).rows) == 2
