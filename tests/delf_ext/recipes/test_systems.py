"""Test that records can describe all systems to reproduce, built or not."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from delf_ext.recipes import schema
from delf_ext.recipes.codec import AnyRecipe, recipe_from_json, to_json
from delf_ext.recipes.registry import RECIPES
from delf_ext.recipes.schema import (
    AdamW,
    Angular,
    AttentionMasks,
    BatchErasing,
    Classification,
    CosineDecay,
    Crop,
    Dense,
    Divergence,
    EncoderDecoder,
    EnsembleRecipe,
    Gem,
    Head,
    Input,
    LabelPaths,
    Lda,
    Limits,
    Linear,
    LossTerm,
    MeanSimilarity,
    Member,
    MirrorLeftRight,
    Model,
    NPair,
    PxK,
    RateFactor,
    Recipe,
    Rotate,
    SelfAttention,
    Shuffled,
    SoftmaxCrossEntropy,
    Stage,
    StepDecay,
    StratifiedFolds,
    TreeConsistency,
    TreePath,
    Triplet,
    Trunk,
)

CLASSIFIER = Head("main", classifier=Linear())
SOFTMAX = LossTerm(SoftmaxCrossEntropy())
MIRROR = schema.TestTime(("mirror",))


def on(trunk: Trunk, *heads: Head) -> Model:
    return Model(trunk, heads, tuple(head.name for head in heads))


def winner(name: str, trunk: Trunk) -> Recipe:
    return Recipe(
        name,
        on(trunk, Head("main", neck=(Dense(128),), maps=(SelfAttention(),))),
        (LossTerm(NPair()), LossTerm(Angular(), weight=2.0)),
        stages=(Stage(20, StepDecay(8)),),
        # The original also uses colour jitter, which has no record here.
        input=Input(224, (Crop(0.5), MirrorLeftRight(), Rotate(15.0))),
        sampling=PxK(64, 4),
    )


def ensemble(name: str, members: list[Recipe], *rest: Any, **options: Any) -> EnsembleRecipe:
    named = tuple(Member(member.name, member) for member in members)
    return EnsembleRecipe(name, named, *rest, **options)


WHOLE = Head("whole", neck=(Dense(512, normalization="batch"),), classifier=Linear())
ERASED = Head(
    "erased",
    neck=(Dense(1024, normalization="batch"),),
    classifier=Linear(),
    maps=(BatchErasing(),),
)
MASKED = Head("main", neck=(Dense(64),), maps=(AttentionMasks(8),), after="block3")
DENSENET = Trunk("densenet161", "keras", "", weight_decay=1e-4)

SYSTEMS: list[AnyRecipe] = [
    *(RECIPES[f"mandoo_{name}"] for name in ("dual", "triplet", "query_expansion", "block3")),
    RECIPES["norm_softmax"],
    RECIPES["lotte_winner"],
    Recipe("finalist_softmax", on(Trunk(), CLASSIFIER), (SOFTMAX,)),
    Recipe(
        "finalist_triplet",
        on(Trunk(), Head("main", neck=(Dense(512),))),
        (LossTerm(Triplet()),),
        sampling=PxK(),
    ),
    Recipe(
        "finalist_bfe",
        on(Trunk(), WHOLE, ERASED),
        tuple(
            LossTerm(loss, head, name=f"{kind}_{head}")
            for head in ("whole", "erased")
            for kind, loss in (("triplet", Triplet()), ("softmax", SoftmaxCrossEntropy()))
        ),
        sampling=PxK(),
    ),
    Recipe(
        "finalist_abe",
        on(Trunk(), MASKED),
        (LossTerm(Triplet()), LossTerm(Divergence())),
        sampling=PxK(),
    ),
    ensemble(
        "winner_first",
        [winner("first", DENSENET), winner("second", Trunk("resnet_v1_101", weight_decay=1e-4))],
        MeanSimilarity(),
        ranking="center,dba:10,aqe:5",
    ),
    Recipe("winner_second", on(Trunk(), CLASSIFIER), (SOFTMAX,), reduction=EncoderDecoder()),
    Recipe(
        "mybox_themes",
        on(Trunk("lite2", "lite", ""), Head("main", Gem(), classifier=TreePath())),
        (LossTerm(SoftmaxCrossEntropy(0.1)), LossTerm(TreeConsistency(), weight=0.1)),
        AdamW(1e-3),
        task=LabelPaths(),
        limits=Limits(2.0, True),
    ),
    Recipe(
        "best_here",
        on(
            Trunk(frozen=("trunk/stem", "trunk/block1", "trunk/block2"), batch_norm="inference"),
            CLASSIFIER,
        ),
        (LossTerm(SoftmaxCrossEntropy(0.1)),),
        AdamW(1e-4, (RateFactor("main", 10.0),), 0.02),
        (Stage(10, CosineDecay()),),
        Input(224, (Crop(0.59), MirrorLeftRight())),  # .35 of the area; without colour jitter
        Shuffled(32),
        StratifiedFolds(),
        Classification(),
        reduction=Lda(),
        test_time=MIRROR,
    ),
]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_system_round_trips_through_json(system: AnyRecipe) -> None:
    assert recipe_from_json(json.loads(json.dumps(to_json(system)))) == system


def test_there_are_fourteen_systems() -> None:
    assert len({system.name for system in SYSTEMS}) == 14


def test_ensemble_member_can_be_a_finished_run() -> None:
    finished = tuple(Member(name, run=f"runs/{name}") for name in ("a", "b"))
    other = dataclasses.replace(SYSTEMS[5], name="mixed", members=finished)
    assert recipe_from_json(to_json(other)) == other
