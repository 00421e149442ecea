"""Test recipes as JSON, settings by path, and the errors of both."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.recipes import codec, schema
from delf_ext.recipes.codec import from_json, recipe_from_json, to_json, with_settings
from delf_ext.recipes.part import (
    PARTS,
    Part,
    Range,
    alternatives,
    choices_of,
    field_types,
    item_type,
    one_of,
)
from delf_ext.recipes.registry import RECIPES

DUAL = RECIPES["mandoo_dual"]
ENSEMBLE = schema.EnsembleRecipe(
    "both",
    (schema.Member("trained", DUAL), schema.Member("finished", run="runs/first")),
    schema.Concatenate((1.0, 2.0)),
)

LOSSES = one_of(sorted(kind.__name__ for kind in schema.Loss.__subclasses__()))
CHANGES = one_of(sorted(kind.__name__ for kind in schema.Augmentation.__subclasses__()))

# --- random recipes

NAMES = ("main", "logits", "similarity")
# Fields for which most random values are not allowed.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Trunk.layout": st.sampled_from(["auto", "slim", "v1.5"]),
    "Dense.units": st.integers(1, 400) | st.integers(1),
    "Head.name": st.sampled_from(NAMES),
    "RateFactor.factor": st.floats(0, 9, exclude_min=True),
}
NUMBERS = {
    int: st.integers(0, 400) | st.integers(),
    float: st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
}


def leaves(kind: type) -> list[type]:
    """Return the concrete classes below a class such as `Loss`."""
    concrete = [leaf for subclass in kind.__subclasses__() for leaf in leaves(subclass)]
    return concrete or [kind]


def values_of(annotation: Any, where: str) -> st.SearchStrategy[Any]:
    """Return a strategy for a field; `where` is its class and name, such as "Gem.p"."""
    if where in VALUES:
        return VALUES[where]
    if choices_of(annotation):
        return st.sampled_from(choices_of(annotation))
    if get_origin(annotation) is Annotated:
        return numbers_in(*get_args(annotation))
    if item_type(annotation) is not None:
        return st.lists(values_of(item_type(annotation), where), max_size=3).map(tuple)
    choices = []
    for kind in alternatives(annotation):
        if kind is type(None):
            choices.append(st.none())
        elif isinstance(kind, type) and issubclass(kind, Part):
            choices += [st.deferred(lambda leaf=leaf: parts(leaf)) for leaf in leaves(kind)]
        elif kind is str:
            choices.append(st.text(max_size=6))
        else:
            choices.append(NUMBERS[kind])
    return st.one_of(choices)


def numbers_in(kind: type, allowed: Range) -> st.SearchStrategy[Any]:
    """Return a strategy for the allowed numbers, small ones first."""
    low, high = max(allowed.low, allowed.above), min(allowed.high, allowed.below, 1e9)
    if kind is int:
        return st.integers(int(low), int(min(high, low + 400))) | st.integers(int(low), int(high))
    bounds = {"exclude_min": allowed.above == low, "exclude_max": allowed.below == high}
    return st.floats(low, high, **bounds)


def accepts(kind: type[Part], values: dict[str, Any]) -> bool:
    try:
        kind(**values)
    except UsageError:
        return False
    return True


@st.composite
def parts(draw: st.DrawFn, kind: type[Part], **fixed: Any) -> Part:
    """Draw a part; a field keeps its default if the drawn value does not fit."""
    types = field_types(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    needed = {
        name: draw(values_of(types[name], f"{kind.__name__}.{name}"))
        for name in types
        if defaults[name] is dataclasses.MISSING and name not in fixed
    }
    values = {**needed, **fixed}
    assume(accepts(kind, values))
    for name, annotation in types.items():
        if name not in values and draw(st.booleans()):
            tried = {**values, name: draw(values_of(annotation, f"{kind.__name__}.{name}"))}
            values = tried if accepts(kind, tried) else values
    return kind(**values)


@st.composite
def models(draw: st.DrawFn) -> schema.Model:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    heads = tuple(draw(parts(schema.Head, name=name, append=())) for name in names)
    embedding = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)))
    return schema.Model(draw(parts(schema.Trunk)), heads, embedding)


@st.composite
def recipes(draw: st.DrawFn) -> schema.Recipe:
    model = draw(models())
    sampling = draw(values_of(schema.Sampling, ""))
    terms = draw(st.lists(values_of(schema.Loss, ""), min_size=1, max_size=4))
    losses = tuple(
        schema.LossTerm(
            loss,
            draw(st.sampled_from(model.heads)).name,
            draw(st.floats(0, 9)),
            f"loss{row}",
        )
        for row, loss in enumerate(terms)
    )
    fixed = {"name": draw(st.text(max_size=9)), "model": model, "sampling": sampling}
    fitting = tuple(term for term in losses if accepts(schema.Recipe, {**fixed, "losses": (term,)}))
    assume(fitting)
    fixed["losses"] = fitting
    stages = tuple(draw(st.lists(parts(schema.Stage), min_size=1, max_size=2)))
    if accepts(schema.Recipe, {**fixed, "stages": stages}):
        fixed["stages"] = stages
    return draw(parts(schema.Recipe, **fixed))


def through_text(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value)))


@given(recipe=recipes())
def test_random_recipes_round_trip_through_json(recipe: schema.Recipe) -> None:
    again = recipe_from_json(through_text(recipe))
    assert again == recipe and hash(again) == hash(recipe)
    assert through_text(again) == through_text(recipe)


@given(data=st.data())
@pytest.mark.parametrize("kind", [kind for kind in PARTS.values() if leaves(kind) == [kind]])
def test_random_parts_round_trip_through_json(kind: type[Part], data: st.DataObject) -> None:
    if kind in (schema.Model, schema.Recipe, schema.Member, schema.EnsembleRecipe):
        # Drawn above, or made of recipes: their fields have to fit each other.
        return
    part = data.draw(parts(kind))
    assert from_json(through_text(part)) == part


@pytest.mark.parametrize("recipe", [*RECIPES.values(), ENSEMBLE], ids=lambda recipe: recipe.name)
def test_registered_recipes_round_trip_through_json(recipe: codec.AnyRecipe) -> None:
    again = recipe_from_json(through_text(recipe))
    assert again == recipe


def test_json_contains_every_field() -> None:
    assert to_json(schema.LossTerm(schema.Triplet())) == {
        "type": "LossTerm",
        "loss": {"type": "Triplet", "margin": 0.3, "mining": "batch_hard"},
        "head": "main",
        "weight": 1.0,
        "name": "",
    }


def test_missing_field_gets_its_default() -> None:
    assert from_json({"type": "Triplet"}) == schema.Triplet()


def _paths(value: Any, path: str = "") -> list[str]:
    """Return the paths of all plain values in JSON data."""
    fields: list[tuple[Any, Any]]
    if isinstance(value, dict):
        fields = [(name, part) for name, part in value.items() if name != "type"]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        fields = list(enumerate(value))
    else:
        return [path.removesuffix(".")]
    return [child for name, part in fields for child in _paths(part, f"{path}{name}.")]


def _other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value / 2 if 0 < value < 1 else value + 2
    if isinstance(value, str):
        return f"{value}x"
    return ["x"] if value is None or isinstance(value, list) else value


def test_every_json_value_changes_the_recipe() -> None:
    original = to_json(DUAL)
    different = {DUAL}
    changed = 0
    for path in _paths(original):
        values = json.loads(json.dumps(original))
        *parents, last = path.split(".")
        parent = values
        for name in parents:
            parent = parent[int(name)] if isinstance(parent, list) else parent[name]
        parent[last] = _other(parent[last])
        try:
            different.add(recipe_from_json(values))
        except UsageError:
            # Not every other value is allowed, such as an unknown activation.
            continue
        changed += 1
    assert changed > 40 and len(different) == 1 + changed


# --- errors


def error_message(value: Any, where: str = "recipe") -> str:
    with pytest.raises(UsageError) as caught:
        from_json(value, where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "Stage", "epochs": 1.5}, "Stage.epochs must be a whole number. Received 1.5."),
        ({"type": "Stage", "epochs": "3"}, "Stage.epochs must be a whole number. Received '3'."),
        ({"type": "Stage", "epochs": True}, "Stage.epochs must be a whole number. Received True."),
        ({"type": "Stage", "epochs": None}, "Stage.epochs must be a whole number. Received None."),
        ({"type": "Adam", "lr": True}, "Adam.lr must be a number. Received True."),
        ({"type": "Adam", "lr": "fast"}, "Adam.lr must be a number. Received 'fast'."),
        ({"type": "Adam", "lr": float("nan")}, "Adam.lr must be a number. Received nan."),
        ({"type": "Adam", "lr": float("inf")}, "Adam.lr must be a number. Received inf."),
        ({"type": "Adam", "lr": -float("inf")}, "Adam.lr must be a number. Received -inf."),
        ({"type": "Adam", "factors": 3}, "Adam.factors must be a list. Received 3."),
        ({"type": "Adam", "factors": ["x"]}, "Adam.factors.0 must be RateFactor. Received 'x'."),
        ({"type": "Gem", "trainable": 1}, "Gem.trainable must be true or false. Received 1."),
        ({"type": "Trunk", "name": 50}, "Trunk.name must be a string. Received 50."),
        ({"type": "Trunk", "frozen": "trunk"}, "Trunk.frozen must be a list. Received 'trunk'."),
        ({"type": "Trunk", "frozen": ["a", 3]}, "Trunk.frozen.1 must be a string. Received 3."),
        (
            {"type": "Head", "name": "a", "pool": {"type": "Adam"}},
            "Head.pool must be Average, Maximum, Gem, Rmac, FeatureNorm or DelfAttention. "
            "Received Adam.",
        ),
        (
            {"type": "Head", "name": "a", "classifier": 1},
            "Head.classifier must be Linear, Cosine, TreePath or null. Received 1.",
        ),
        (
            {"type": "LossTerm", "loss": {"type": "Gem"}},
            f"LossTerm.loss must be {LOSSES}. Received Gem.",
        ),
        ({"type": "Stage", "epochs": 0}, "Stage.epochs must be at least 1. Received 0."),
        ({"type": "LossTerm"}, "LossTerm needs loss."),
        ({"type": "RateFactor"}, "RateFactor needs group, factor."),
    ],
)
def test_error_names_the_field_and_the_wrong_value(value: Any, message: str) -> None:
    assert error_message(value) == f"recipe: {message}"


def test_number_too_large_for_a_float_is_an_error() -> None:
    value = {"type": "Adam", "lr": 10**400}
    assert error_message(value).startswith("recipe: Adam.lr must be a number. Received 1000")


def test_error_for_unknown_key_lists_known_keys() -> None:
    value = {"type": "Recipe", "optimizer": {"type": "Adam", "lrr": 1, "beta": 2}}
    message = (
        "recipe.optimizer: unknown key beta, lrr in Adam. Known: lr, factors, weight_decay, decays."
    )
    assert error_message(value) == message


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"type": "Recipi"}, "unknown type 'Recipi'"),
        ({"type": 3}, "unknown type 3"),
        ({"type": None}, "unknown type None"),
        ({"name": "x"}, 'no "type"'),
    ],
)
def test_error_for_unknown_type_lists_known_types(value: Any, named: str) -> None:
    message = error_message(
        {"type": "Model", "heads": [{"type": "Head", "name": "a", "neck": [value]}]}
    )
    assert message.startswith(f"recipe.heads.0.neck.0: {named}. Known types: ")
    assert " Adam, AdamW, " in message and message.endswith(".")


def test_error_begins_with_the_given_name_of_the_data() -> None:
    value = {"type": "Stage", "schedule": {"type": "StepDecay", "factor": "a"}}
    message = "mine.json.schedule: StepDecay.factor must be a number. Received 'a'."
    assert error_message(value, "mine.json") == message


@pytest.mark.parametrize("kind", [kind for kind in PARTS.values() if leaves(kind) != [kind]])
def test_base_class_cannot_be_used_as_a_part(kind: type[Part]) -> None:
    """`Validation` does not say what to hold out, and `HeldOutClasses` not how."""
    choices = ", ".join(subclass.__name__ for subclass in kind.__subclasses__())
    message = f"{kind.__name__} is the name of several parts. Choose one of: {choices}."
    assert error_message({"type": kind.__name__}) == f"recipe: {message}"


@pytest.mark.parametrize(
    ("value", "received"),
    [(3, "int"), ("x", "str"), ([], "list"), (None, "NoneType"), ({"type": "Adam"}, "Adam")],
)
def test_data_without_a_recipe_are_an_error(value: Any, received: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from_json(value, "mine.json")
    wanted = '"type": "Recipe" or "EnsembleRecipe"'
    assert str(caught.value) == f"mine.json: must be an object with {wanted}. Received {received}."


# --- settings by path

TASKS = "Recipe.task must be Retrieval, Classification or LabelPaths."
KEYED = '{"type": "Retrieval", "by": 1}'
NO_HEAD = "loss logits is on head 'x', which does not exist. Heads: logits, similarity."


def settings_of(*settings: str) -> schema.Recipe:
    return with_settings(DUAL, settings)


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("optimizer.lr=1e-3", lambda recipe: recipe.optimizer.lr, 1e-3),
        ("optimizer.lr=1", lambda recipe: recipe.optimizer.lr, 1.0),
        (" optimizer.lr = 1 ", lambda recipe: recipe.optimizer.lr, 1.0),
        ("name=1e-3", lambda recipe: recipe.name, "1e-3"),
        ("name=null", lambda recipe: recipe.name, "null"),
        ("name=a=b", lambda recipe: recipe.name, "a=b"),
        ("name=", lambda recipe: recipe.name, ""),
        ("model.trunk.frozen=trunk", lambda recipe: recipe.model.trunk.frozen, ("trunk",)),
        (
            "test_time.copies=mirror, flip,",
            lambda recipe: recipe.test_time.copies,
            ("mirror", "flip"),
        ),
        ('test_time.copies=["mirror"]', lambda recipe: recipe.test_time.copies, ("mirror",)),
        ("test_time.copies=", lambda recipe: recipe.test_time.copies, ()),
        ("test_time.scales=[1, 0.5]", lambda recipe: recipe.test_time.scales, (1.0, 0.5)),
        ("test_time.scales=1, .5", lambda recipe: recipe.test_time.scales, (1.0, 0.5)),
        ("optimizer.lr=.5", lambda recipe: recipe.optimizer.lr, 0.5),
        ("limits.float32=True", lambda recipe: recipe.limits.float32, True),
        ("limits.float32=true", lambda recipe: recipe.limits.float32, True),
        ("validation=null", lambda recipe: recipe.validation, None),
        ("validation=None", lambda recipe: recipe.validation, None),
        ("validation=RandomClasses", lambda recipe: recipe.validation, schema.RandomClasses()),
        ("optimizer=AdamW", lambda recipe: recipe.optimizer, schema.AdamW()),
        (
            'optimizer={"type": "Sgd", "lr": 0.1}',
            lambda recipe: recipe.optimizer,
            schema.Sgd(0.1),
        ),
        ("stages.0.epochs=3", lambda recipe: recipe.epochs, 3),
        (
            "stages.Stage.schedule=CosineDecay",
            lambda recipe: recipe.stages[0].schedule,
            schema.CosineDecay(),
        ),
        ("losses.sim.loss.scale=3", lambda recipe: recipe.losses[1].loss.scale, 3.0),
        ("losses.1.weight=3", lambda recipe: recipe.losses[1].weight, 3.0),
        (
            "model.heads.similarity.pool=Gem",
            lambda recipe: recipe.model.heads[1].pool,
            schema.Gem(),
        ),
        (
            "model.heads.similarity.neck.Dense.units=7",
            lambda recipe: recipe.model.heads[1].neck[0].units,
            7,
        ),
        (
            "model.heads.similarity.neck.1.units=7",
            lambda recipe: recipe.model.heads[1].neck[1].units,
            7,
        ),
        *(
            (f"model.heads.similarity.neck={text}", lambda recipe: recipe.model.heads[1].neck, ())
            for text in ("[]", "", "None")
        ),
        (
            "optimizer.factors.classifier.factor=3",
            lambda recipe: recipe.optimizer.factors[1].factor,
            3.0,
        ),
        ("reduction=Lda", lambda recipe: recipe.reduction, schema.Lda()),
        (
            "model.heads.similarity.neck=LayerNorm, Dropout",
            lambda recipe: recipe.model.heads[1].neck,
            (schema.LayerNorm(), schema.Dropout()),
        ),
        (
            "input.augment=MirrorLeftRight",
            lambda recipe: recipe.input.augment,
            (schema.MirrorLeftRight(),),
        ),
    ],
)
def test_setting_changes_the_value_at_its_path(setting: str, read: Any, expected: Any) -> None:
    value = read(settings_of(setting))
    assert value == expected and type(value) is type(expected)


def test_settings_apply_in_order_and_change_only_their_values() -> None:
    changed = settings_of(
        "model.heads.similarity.pool=Gem",
        "model.heads.similarity.pool.p=4",
        "optimizer.lr=1",
    )
    heads = dataclasses.replace(DUAL.model.heads[1], pool=schema.Gem(4.0))
    model = dataclasses.replace(DUAL.model, heads=(DUAL.model.heads[0], heads))
    optimizer = dataclasses.replace(DUAL.optimizer, lr=1.0)
    assert changed == dataclasses.replace(DUAL, model=model, optimizer=optimizer)
    assert settings_of() == DUAL


@pytest.mark.parametrize("order", [1, -1])
def test_settings_that_need_each_other_apply_in_any_order(order: int) -> None:
    """NormSoftmax needs cosines, and Triplet needs a sampling that is not Shuffled."""
    changed = settings_of(
        *(
            "losses.logits.loss=NormSoftmax",
            "model.heads.logits.classifier=Cosine",
            "sampling=Shuffled",
            "losses.sim.loss=CosFace",
            "losses.sim.head=logits",
        )[::order]
    )
    assert changed.losses[0].loss == schema.NormSoftmax()
    assert changed.losses[1].loss == schema.CosFace()


def test_error_of_settings_that_do_not_fit_names_the_first_wrong_one() -> None:
    with pytest.raises(UsageError) as caught:
        settings_of("losses.logits.loss=ArcFace", "optimizer.lr=1")
    assert str(caught.value) == (
        "--set losses.logits.loss=ArcFace: ArcFace needs cosines as logits: "
        "give head 'logits' the classifier Cosine."
    )


def test_unnamed_loss_is_addressed_by_its_class() -> None:
    recipe = dataclasses.replace(
        DUAL, losses=(schema.LossTerm(schema.SoftmaxCrossEntropy(), "logits"),)
    )
    changed = with_settings(recipe, ["losses.softmax_cross_entropy.loss.label_smoothing=0.5"])
    assert changed.losses[0].loss == schema.SoftmaxCrossEntropy(0.5)


def test_ensemble_member_is_addressed_by_its_name() -> None:
    changed = with_settings(
        ENSEMBLE,
        ["members.trained.recipe.optimizer.lr=1", "join=MeanEmbedding"],
    )
    assert changed.members[0].recipe == settings_of("optimizer.lr=1")
    assert changed.join == schema.MeanEmbedding()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("x", "--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received 'x'."),
        ("=3", "--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received '=3'."),
        ("", "--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received ''."),
        (
            "lrr=1",
            "--set: the recipe (Recipe) has no 'lrr'. Known: name, model, losses, optimizer, ",
        ),
        (
            "optimizer.lrr=1",
            "--set: optimizer (Adam) has no 'lrr'. Known: lr, factors, weight_decay, decays.",
        ),
        ("optimizer.lr.x=1", "--set: optimizer.lr is 0.0001 and has no part 'x'."),
        ("reduction.dims=1", "--set: reduction is None and has no part 'dims'."),
        (
            "optimizer..lr=1",
            "--set: optimizer (Adam) has no ''. Known: lr, factors, weight_decay, decays.",
        ),
        ("losses.5.weight=1", "--set: losses has no '5'. Known: logits, sim."),
        ("losses.-1.weight=1", "--set: losses has no '-1'. Known: logits, sim."),
        ("model.heads.foo.pool=Gem", "--set: model.heads has no 'foo'. Known: logits, similarity."),
        (
            "input.augment.0=Crop",
            "--set: input.augment has no '0'. Known: none, the list is empty.",
        ),
        (
            "optimizer.factors.logits.factor=1",
            "--set: optimizer.factors has no 'logits'. Known: attention, classifier.",
        ),
        (
            "optimizer.lr=fast",
            "--set optimizer.lr=fast: Adam.lr must be a number. Received 'fast'.",
        ),
        ("optimizer.lr=NaN", "--set optimizer.lr=NaN: Adam.lr must be a number. Received nan."),
        (
            "optimizer.lr=Infinity",
            "--set optimizer.lr=Infinity: Adam.lr must be a number. Received inf.",
        ),
        ("optimizer.lr=true", "--set optimizer.lr=true: Adam.lr must be a number. Received True."),
        (
            "stages.0.epochs=2.5",
            "--set stages.0.epochs=2.5: Stage.epochs must be a whole number. Received 2.5.",
        ),
        (
            "limits.float32=yes",
            "--set limits.float32=yes: Limits.float32 must be true or false. Received 'yes'.",
        ),
        (
            "model.heads.similarity.pool=Foo",
            "--set model.heads.similarity.pool=Foo: "
            "Head.pool must be Average, Maximum, Gem, Rmac, FeatureNorm or DelfAttention. "
            "Received 'Foo'.",
        ),
        (
            "losses.sim.loss=ArcFac",
            f"--set losses.sim.loss=ArcFac: LossTerm.loss must be {LOSSES}. Received 'ArcFac'.",
        ),
        (
            "model.heads.similarity.neck=Dropout,Foo",
            "--set model.heads.similarity.neck=Dropout,Foo: "
            "Head.neck.1 must be Dense, LayerNorm or Dropout. Received 'Foo'.",
        ),
        (
            "task=Gem",
            f"--set task=Gem: {TASKS} Received 'Gem'.",
        ),
        (
            'task={"type": "Gem"}',
            f'--set task={{"type": "Gem"}}: {TASKS} Received Gem.',
        ),
        (
            f"task={KEYED}",
            f"--set task={KEYED}: value: unknown key by in Retrieval. Known: select_by, ranked_by.",
        ),
        (
            "model.heads.similarity.neck.0=Dense",
            "--set model.heads.similarity.neck.0=Dense: Dense needs units: pass it as JSON, "
            '{"type": "Dense", "units": ...}.',
        ),
        (
            "losses=ArcFace",
            "--set losses=ArcFace: ArcFace is no LossTerm, but can be its loss.",
        ),
        (
            "model.heads.similarity=Gem",
            "--set model.heads.similarity=Gem: Gem is no Head, but can be its pool.",
        ),
        (
            "sampling={}",
            '--set sampling={}: value: no "type". Known types: ',
        ),
        (
            "validation=0",
            "--set validation=0: Recipe.validation must be ClassBlock, Given, RandomClasses, "
            "StratifiedFolds or null. Received 0.",
        ),
        (
            "losses.0.head=x",
            f"--set losses.0.head=x: {NO_HEAD}",
        ),
        (
            "input.augment=Cropp",
            f"--set input.augment=Cropp: Input.augment.0 must be {CHANGES}. Received 'Cropp'.",
        ),
    ],
)
def test_error_for_bad_setting_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(setting)
    error = str(caught.value)
    # A message that ends with a space is the start of a long one.
    assert error == message or (message.endswith(" ") and error.startswith(message))
    assert "\n" not in error


@given(
    # Dots, "=", digits and the letters of words in paths, such as losses, optimizer and heads.
    path=st.lists(st.text("abc.0=losesimhdrtpz", max_size=8), max_size=4),
    value=st.text(max_size=8),
)
def test_random_setting_gives_a_recipe_or_a_usage_error(path: list[str], value: str) -> None:
    try:
        assert isinstance(settings_of(f"{'.'.join(path)}={value}"), schema.Recipe)
    except UsageError as error:
        assert "--set" in str(error)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1" + "0" * 5000, "[" * 100_000])
def test_value_that_python_json_cannot_read_is_an_error(value: str) -> None:
    with pytest.raises(UsageError, match="Adam.lr must be a number"):
        settings_of(f"optimizer.lr={value}")
