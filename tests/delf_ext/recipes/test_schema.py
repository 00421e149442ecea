"""Test which records are errors, and that augmentations fit data_io."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import pytest

from data_io import augmentation
from data_io.changes import mixing
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part, snake_case
from delf_ext.recipes.schema import Dense, Head, LossTerm, Model, PxK, Recipe, Stage, Trunk

SOFTMAX = LossTerm(schema.SoftmaxCrossEntropy())
TRIPLET = LossTerm(schema.Triplet())
CHANGE_STATISTICS = '"inference": training would still change their statistics.'
STOPPED = Model(heads=(Head("main", classifier=schema.Linear(), stop_gradient=True),))


def recipe(**options: Any) -> Recipe:
    return Recipe(**{"name": "mine", "model": Model(), "losses": (SOFTMAX,), **options})


def masked(*losses: schema.Loss, **options: Any) -> Recipe:
    model = Model(heads=(Head("main", maps=(schema.AttentionMasks(2),)),))
    return recipe(model=model, losses=tuple(map(LossTerm, losses)), **options)


ERRORS: list[tuple[Callable[[], object], str]] = [
    # a recipe
    (lambda: recipe(losses=()), "mine: nothing to train, losses is empty."),
    (
        lambda: recipe(losses=(LossTerm(schema.SoftmaxCrossEntropy(), weight=0),)),
        "mine: nothing to train, each loss has the weight 0.",
    ),
    (lambda: recipe(stages=()), "mine: stages is empty."),
    (
        lambda: recipe(losses=(LossTerm(schema.Triplet(), "side"),), sampling=PxK()),
        "loss triplet is on head 'side', which does not exist. Heads: main.",
    ),
    (
        lambda: recipe(model=Model(heads=(Head("main"),))),
        "SoftmaxCrossEntropy needs the logits of head 'main': give it a classifier.",
    ),
    (
        lambda: recipe(losses=(LossTerm(schema.Divergence()),)),
        "Divergence needs several embeddings of head 'main': give it AttentionMasks.",
    ),
    (
        lambda: recipe(losses=(LossTerm(schema.PairSimilarity()),)),
        "PairSimilarity compares images of one class: sampling must be Pairs or PxK, not Shuffled.",
    ),
    (
        lambda: recipe(losses=(TRIPLET,)),
        "Triplet compares images of one class: sampling must be Pairs or PxK, not Shuffled.",
    ),
    (
        lambda: recipe(losses=(LossTerm(schema.PairSimilarity()),), sampling=PxK(4, 3)),
        "PairSimilarity compares pairs of neighbours: PxK.images must be even. Received 3.",
    ),
    (
        lambda: recipe(losses=(SOFTMAX, SOFTMAX)),
        f"mine: two losses have the same name, rename one: {', '.join([SOFTMAX.shown_name] * 2)}.",
    ),
    (
        lambda: recipe(model=STOPPED),
        "mine: every loss has stop_gradient in front of its head, so nothing would train the trunk."
        ' Add a loss on another head, or freeze the trunk (model.trunk.frozen=["trunk"]).',
    ),
    # the model
    (
        lambda: Trunk(source="disk"),
        "Trunk.source must be slim, keras, zoo, lite, onnx or features. Received 'disk'.",
    ),
    (
        lambda: Trunk(batch_norm="off"),
        "Trunk.batch_norm must be training or inference. Received 'off'.",
    ),
    (
        lambda: Trunk(batch_norm_decay=1),
        "Trunk.batch_norm_decay must be at least 0 and below 1. Received 1.0.",
    ),
    (
        lambda: Trunk(batch_norm_decay=-0.5),
        "Trunk.batch_norm_decay must be at least 0 and below 1. Received -0.5.",
    ),
    (lambda: Trunk(weight_decay=-1), "Trunk.weight_decay must be at least 0. Received -1.0."),
    (
        lambda: Trunk(frozen=("trunk/block1",)),
        f"Trunk.frozen names blocks, so Trunk.batch_norm must be {CHANGE_STATISTICS}",
    ),
    (lambda: Model(heads=()), "Model.heads must be heads with different names. Received []."),
    (
        lambda: Model(heads=(Head("a"), Head("a"))),
        "Model.heads must be heads with different names. Received ['a', 'a'].",
    ),
    (lambda: Model(embedding=()), "Model.embedding must name at least one head."),
    (lambda: Model(embedding=("b",)), "Model.embedding names head 'b'. Heads: main."),
    (
        lambda: Model(heads=(Head("main", append=("main",), classifier=schema.Linear()),)),
        "Head 'main' appends the logits of 'main'. Heads with logits before it: none.",
    ),
    (
        lambda: Model(heads=(Head("a"), Head("main", append=("a",)))),
        "Head 'main' appends the logits of 'a'. Heads with logits before it: none.",
    ),
    (
        lambda: Head("trunk"),
        "Head.name must be a word other than trunk or attention. Received 'trunk'.",
    ),
    (
        lambda: Head("a b"),
        "Head.name must be a word other than trunk or attention. Received 'a b'.",
    ),
    (
        lambda: schema.ArcFace(margin_rad=3.1416),
        "ArcFace.margin_rad must be at least 0 and below 3.14159. Received 3.1416.",
    ),
    (
        lambda: schema.ArcFace(margin_rad=0.1, adaptive_power=0.25, min_margin_rad=0.2),
        "ArcFace.min_margin_rad must not be above margin_rad. Received 0.2 and 0.1.",
    ),
    (
        lambda: recipe(losses=(LossTerm(schema.SupervisedContrastive()),)),
        "SupervisedContrastive compares images of one class: "
        "sampling must be Pairs or PxK, not Shuffled.",
    ),
    (lambda: schema.Rmac(0), "Rmac.levels must be at least 1 and at most 10. Received 0."),
    (lambda: schema.Gem(0), "Gem.p must be above 0. Received 0.0."),
    (
        lambda: schema.BatchErasing(0),
        "BatchErasing.height_share must be above 0 and at most 1. Received 0.0.",
    ),
    (lambda: Dense(0), "Dense.units must be at least 1. Received 0."),
    (lambda: Dense(1, "tanh"), "Dense.activation must be \"\", relu or prelu. Received 'tanh'."),
    (
        lambda: Dense(1, "", "group"),
        "Dense.normalization must be \"\", batch or layer. Received 'group'.",
    ),
    (lambda: Dense(1, dropout=1), "Dense.dropout must be at least 0 and below 1. Received 1.0."),
    # losses
    (
        lambda: LossTerm(schema.ArcFace(), weight=-1),
        "LossTerm.weight must be at least 0. Received -1.0.",
    ),
    (lambda: schema.Triplet(0), "Triplet.margin must be above 0. Received 0.0."),
    (
        lambda: schema.Triplet(1, "all"),
        "Triplet.mining must be batch_hard or semi_hard. Received 'all'.",
    ),
    (lambda: schema.HardestNegatives(0), "HardestNegatives.top_k must be at least 1. Received 0."),
    (
        lambda: schema.ArcFace(margin_rad=4),
        "ArcFace.margin_rad must be at least 0 and below 3.14159. Received 4.0.",
    ),
    (
        lambda: schema.SoftmaxCrossEntropy(1),
        "SoftmaxCrossEntropy.label_smoothing must be at least 0 and below 1. Received 1.0.",
    ),
    # training
    (lambda: schema.RateFactor("trunk", 0), "RateFactor.factor must be above 0. Received 0.0."),
    (lambda: schema.Sgd(0), "Sgd.lr must be at least 1e-12 and at most 1000. Received 0.0."),
    (lambda: Stage(0), "Stage.epochs must be at least 1. Received 0."),
    (lambda: schema.Input(31), "Input.size_px must be at least 32 and at most 4096. Received 31."),
    (
        lambda: schema.Shuffled(0),
        "Shuffled.batch_size must be at least 1 and at most 65536. Received 0.",
    ),
    (lambda: schema.Pairs(2), "Pairs.batch_size must be even and at least 4. Received 2."),
    (lambda: schema.Pairs(5), "Pairs.batch_size must be even and at least 4. Received 5."),
    (lambda: PxK(1, 4), "PxK.classes must be at least 2 and at most 4096. Received 1."),
    (lambda: PxK(2, 1), "PxK.images must be at least 2 and at most 4096. Received 1."),
    # validation, task, and the steps after training
    (lambda: schema.Given(-1), "Given.every_steps must be at least 0. Received -1."),
    (lambda: schema.ClassBlock(-1), "ClassBlock.every_steps must be at least 0. Received -1."),
    (
        lambda: schema.RandomClasses(share=1),
        "RandomClasses.share must be above 0 and below 1. Received 1.0.",
    ),
    (
        lambda: schema.StratifiedFolds(folds=2, fold=2),
        "StratifiedFolds.fold must be 0..1. Received 2.",
    ),
    (
        lambda: schema.Retrieval("loss"),
        "Retrieval.select_by must be mAP, recall_at_1 or mean_last_rank. Received 'loss'.",
    ),
    (
        lambda: schema.TestTime(join="max"),
        "TestTime.join must be mean or concatenation. Received 'max'.",
    ),
    # ensembles
    (lambda: schema.Member("a"), "ensemble member 'a' needs either a recipe or a run."),
    (
        lambda: schema.Member("a", recipe(), "r"),
        "ensemble member 'a' needs either a recipe or a run.",
    ),
    (
        lambda: schema.EnsembleRecipe("e", (schema.Member("a", run="r"),)),
        "e: an ensemble needs at least two members. Received 1.",
    ),
    (
        lambda: schema.EnsembleRecipe("e", (schema.Member("a", run="r"),) * 2),
        "e: two members have the same name, rename one. Received a, a.",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"),
    ERRORS,
    ids=[message[:50] for _, message in ERRORS],
)
def test_invalid_records_are_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message


def test_valid_records_close_to_invalid_ones_are_accepted() -> None:
    frozen = dataclasses.replace(STOPPED, trunk=Trunk(frozen=("trunk",)))
    assert recipe(model=frozen).model.trunk.is_frozen
    assert recipe(
        model=dataclasses.replace(STOPPED, trunk=Trunk(source="features")),
    ).model.trunk.is_frozen
    assert not recipe(
        model=Model(Trunk(batch_norm="inference", frozen=("trunk/block1",))),
    ).model.trunk.is_frozen
    assert masked(schema.Triplet(), schema.Divergence(), sampling=PxK(4, 3)).batch_size == 12
    pairs = LossTerm(schema.PairSimilarity())
    assert recipe(losses=(pairs,), sampling=schema.Pairs(4)).batch_size == 4
    twice = (SOFTMAX, dataclasses.replace(SOFTMAX, name="again", weight=0.0))
    assert [term.shown_name for term in recipe(losses=twice).losses] == [
        "softmax_cross_entropy",
        "again",
    ]
    appended = Head("b", append=("main",))
    assert Model(heads=(Head("main", classifier=schema.Linear()), appended)).head("b") is appended


def test_epochs_of_a_recipe_are_the_sum_over_its_stages() -> None:
    assert recipe(stages=(Stage(2), Stage(5))).epochs == 7


def test_head_returns_none_for_an_unknown_name() -> None:
    assert Model().head("main") == Model().heads[0] and Model().head("side") is None


def test_parts_are_frozen_and_accept_lists_and_whole_numbers() -> None:
    made = recipe(losses=[SOFTMAX])
    assert made.losses == (SOFTMAX,) and isinstance(schema.Adam(lr=1).lr, float)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "snake"),
    [("ArcFace", "arc_face"), ("Crop", "crop"), ("SoftmaxCrossEntropy", "softmax_cross_entropy")],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_not_built_lists_the_parts_that_are_built() -> None:
    @singledispatch
    def build(config: Part) -> str:
        raise NotBuilt(config, build)

    with pytest.raises(UsageError) as without_parts:
        build(schema.Gem())
    assert str(without_parts.value) == "Gem is not built yet. Built: none of its kind."
    build.register(schema.FeatureNorm, lambda config: "norm")
    build.register(schema.Average, lambda config: "mean")
    with pytest.raises(UsageError) as with_parts:
        build(schema.Gem())
    assert str(with_parts.value) == "Gem is not built yet. Built: Average, FeatureNorm."
    assert build(schema.Average()) == "mean"


# --- augmentations


KINDS = schema.Augmentation.__subclasses__()


def name_of(kind: type) -> str:
    return snake_case(kind.__name__)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if not kind.mixes],
    ids=name_of,
)
def test_augmentation_fields_are_the_parameters_of_its_function(kind: type) -> None:
    changes = augmentation.BEFORE_RESIZE | augmentation.AFTER_RESIZE
    _, _, *parameters = inspect.signature(changes[snake_case(kind.__name__)]).parameters.values()
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    assert fields == {parameter.name: parameter.default for parameter in parameters}


def test_every_augmentation_function_has_a_record() -> None:
    records = {name_of(kind) for kind in KINDS if not kind.mixes}
    assert records == set(augmentation.AUGMENTATIONS)
    assert {name_of(kind) for kind in KINDS if kind.mixes} == set(mixing.MIXINGS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: schema.Crop(0.0),
            "Crop.min_side_share must be above 0 and at most 1. Received 0.0.",
        ),
        (lambda: schema.Noise(1.5), "Noise.max_share must be above 0 and at most 1. Received 1.5."),
        (lambda: schema.Rotate(-1.0), "Rotate.max_deg must be above 0. Received -1.0."),
        (
            lambda: schema.RandomResizedCrop(0.5, 0.25),
            "RandomResizedCrop.min_area_share must not be above max_area_share. "
            "Received 0.5 and 0.25.",
        ),
        (
            lambda: schema.Input(augment=(schema.Crop(), schema.Crop(0.5))),
            "input.augment has Crop twice: remove one.",
        ),
        (
            lambda: schema.Input(augment=(schema.CutMix(), schema.Mixup(probability=0.75))),
            "CutMix and Mixup never mix the same image, so their probabilities must not add up to "
            "more than 1. Received 1.25.",
        ),
        (
            lambda: recipe(
                losses=(SOFTMAX, LossTerm(schema.PairSimilarity())),
                sampling=schema.Pairs(4),
                input=schema.Input(augment=(schema.CutMix(), schema.Mixup())),
            ),
            "PairSimilarity needs images of one class, but CutMix and Mixup mix the classes: "
            "remove one or the other.",
        ),
        (
            lambda: recipe(
                model=Model(heads=(Head("main", classifier=schema.Cosine()),)),
                losses=(LossTerm(schema.ProxyAnchor()),),
                input=schema.Input(augment=(schema.CutMix(),)),
            ),
            "ProxyAnchor needs images of one class, but CutMix mixes the classes: "
            "remove one or the other.",
        ),
    ],
)
def test_augmentation_out_of_range_is_an_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message


def test_stage_without_the_trunk_needs_fixed_batch_statistics() -> None:
    stages = (Stage(1, trains=("classifier",)), Stage(1))
    with pytest.raises(
        UsageError,
        match="stage 1 does not train the whole trunk, but would change all its batch statistics",
    ):
        recipe(stages=stages)
    assert recipe(model=Model(Trunk(batch_norm="inference")), stages=stages).epochs == 2


def test_margin_loss_needs_cosines_as_logits() -> None:
    term = LossTerm(schema.ArcFace())
    message = "ArcFace needs cosines as logits: give head 'main' the classifier Cosine."
    with pytest.raises(UsageError) as caught:
        recipe(losses=(term,))
    assert str(caught.value) == message
    assert recipe(
        model=Model(heads=(Head("main", classifier=schema.Cosine()),)), losses=(term,)
    ).losses == (term,)


def test_first_stage_needs_a_schedule() -> None:
    with pytest.raises(UsageError, match=r"^stage 1: schedule is None, .* Give the first stage"):
        recipe(stages=(Stage(1, None),))
    staged = recipe(stages=(Stage(1), Stage(1, None, size_px=288), Stage(2, None, size_px=160)))
    assert (staged.sizes_px, staged.final_size_px, staged.epochs) == ((224, 288, 160), 160, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stages": (Stage(1), Stage(1, schema.Plateau())), "validation": None},
            "stage 2: the schedule Plateau follows the evaluation on the dev split, but validation "
            "is None. Give the recipe a validation, or another schedule.",
        ),
        (
            {"stages": (Stage(1, schema.CosineDecay(2.5)), Stage(1, None), Stage(5))},
            "stage 1: CosineDecay.warmup_epochs must be at most its 2 epochs. Received 2.5.",
        ),
        (
            {"stages": (Stage(3),), "averaging": schema.Swa(4)},
            "averaging: Swa.start_epoch must be at most the 3 epochs of the recipe. Received 4.",
        ),
        ({"batches_per_update": 0}, "Recipe.batches_per_update must be at least 1 and at most "),
    ],
)
def test_schedules_and_averages_that_cannot_work_are_errors(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(**changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: schema.Ema(1.0), "Ema.decay"),
        (lambda: schema.Ema(float("nan")), "Ema.decay"),
        (lambda: schema.Swa(0), "Swa.start_epoch"),
        (lambda: schema.Swa(1, 0), "Swa.every_epochs"),
        (lambda: schema.AdamW(decays="bias"), "AdamW.decays"),
        (lambda: schema.Plateau(factor=1.5), "Plateau.factor"),
        (lambda: schema.CosineDecay(-1), "CosineDecay.warmup_epochs"),
    ],
)
def test_error_of_a_training_part_names_its_field(make: Callable[[], object], field: str) -> None:
    with pytest.raises(UsageError, match=rf"^{field} must be "):
        make()


@pytest.mark.parametrize(("frozen", "size_px"), [((), 16), (("trunk",), 64)])
def test_stage_size_that_cannot_work_is_an_error(frozen: tuple[str, ...], size_px: int) -> None:
    rule = "size_px must be 0, or at least 32 with a trunk that is trained"
    with pytest.raises(UsageError, match=rf"^stage 1: {rule}\. Received {size_px}\.$"):
        recipe(model=Model(Trunk(frozen=frozen)), stages=(Stage(1, size_px=size_px),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: schema.Member("../evil", run="r"),
            "Member.name must be a word. Received '../evil'.",
        ),
        (
            lambda: schema.EnsembleRecipe(
                "e", tuple(schema.Member(n, run="r") for n in "ab"), schema.Concatenate((1.0,))
            ),
            "Concatenate.weights needs 2 numbers above 0, or none. Received [1.0].",
        ),
        (
            lambda: schema.EnsembleRecipe(
                "e", tuple(schema.Member(n, run="r") for n in "ab"), schema.Concatenate((1.0, 0.0))
            ),
            "Concatenate.weights needs 2 numbers above 0, or none. Received [1.0, 0.0].",
        ),
        (
            lambda: schema.Input(10**9),
            "Input.size_px must be at least 32 and at most 4096. Received 1000000000.",
        ),
    ],
)
def test_mistakes_that_would_fail_after_training_are_errors(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message
