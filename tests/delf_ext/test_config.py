"""Configurations: what they refuse and how, and that they come back from JSON as they went."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import LossConfig, ModelConfig, RunConfig, TrainConfig, UsageError, strict

LOGITS = LossConfig(train_logits=True)


def run(**options: Any) -> RunConfig:
    return RunConfig(**{"loss": LOGITS, **options})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sed": 1, "dropout": 2},
            "unknown key dropout, sed in RunConfig. Known: class_names, data, deterministic, dev_percent, ",
        ),
        ({"model": {"layuot": "slim"}}, "unknown key layuot in ModelConfig. Known: batch_norm_decay, endpoint, "),
        ({"loss": {"train_logit": True}}, "unknown key train_logit in LossConfig. Known: "),
        ({"training": {"learning_rate": 1.0}}, "unknown key learning_rate in TrainConfig. Known: "),
        ({"model": 3}, "ModelConfig must be a mapping with some of: batch_norm_decay, endpoint, "),
        ([], "RunConfig must be a mapping with some of: class_names, "),
    ],
)
def test_unknown_keys_are_named_with_the_known_ones(values: Any, message: str):
    with pytest.raises(ValueError) as caught:
        RunConfig.from_dict(values)
    assert str(caught.value).startswith(message)


REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: ModelConfig(image_size=31), "--image_size must be at least 32 pixels. Received 31."),
    (lambda: ModelConfig(batch_norm_decay=1.0), "--batch_norm_decay must be at least 0 and below 1. Received 1.0."),
    (lambda: ModelConfig(batch_norm_decay=-0.1), "--batch_norm_decay must be at least 0 and below 1. Received -0.1."),
    (lambda: LossConfig(train_max_neg_topk=0), "--train_max_neg_topk must be at least 1. Received 0."),
    (lambda: LossConfig(margin=0.0), "--margin must be above 0. Received 0.0."),
    (lambda: TrainConfig(epochs=0), "--epochs must be at least 1. Received 0."),
    (lambda: TrainConfig(batch_size=-1), "--batch_size must be at least 1. Received -1."),
    (lambda: TrainConfig(eval_every_steps=0), "--eval_every_steps must be at least 1. Received 0."),
    (lambda: TrainConfig(checkpoint_every_steps=0), "--checkpoint_every_steps must be at least 1. Received 0."),
    (lambda: TrainConfig(lr=0.0), "--lr must be above 0. Received 0.0."),
    (lambda: TrainConfig(lr=float("nan")), "--lr must be above 0. Received nan."),
    (lambda: TrainConfig(lr_schedule="step"), "--lr_schedule is constant or cosine. Received 'step'."),
    (lambda: run(dev_percent=1.0), "--dev_percent is a share of the classes, 0 <= x < 1. Received 1.0."),
    (lambda: run(dev_percent=-0.1), "--dev_percent is a share of the classes, 0 <= x < 1. Received -0.1."),
    (
        RunConfig,
        "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist --train_max_neg --train_triplet.",
    ),
    (
        lambda: run(loss=LossConfig(train_logits=True, train_sim=True), training=TrainConfig(batch_size=2)),
        "--train_sim compares images of a batch: --batch_size must be even and at least 4. Received 2.",
    ),
    (
        lambda: run(loss=LossConfig(train_triplet=True), training=TrainConfig(batch_size=7)),
        "--train_triplet compares images of a batch: --batch_size must be even and at least 4. Received 7.",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSALS, ids=[message.split(".")[0][:40] for _, message in REFUSALS])
def test_bad_values_are_refused_by_flag(make: Callable[[], object], message: str):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_the_values_at_the_borders_are_taken():
    assert ModelConfig(image_size=32, batch_norm_decay=0.0).image_size == 32
    assert TrainConfig(epochs=1, batch_size=1, eval_every_steps=1, checkpoint_every_steps=1).lr_schedule == "constant"
    assert run(dev_percent=0.0, training=TrainConfig(batch_size=1)).training.batch_size == 1
    assert run(loss=LossConfig(train_sim=True), training=TrainConfig(batch_size=4)).loss.trains_similarity


configs = st.builds(
    RunConfig,
    data=st.text(max_size=5),
    dev_percent=st.floats(0, 0.9),
    seed=st.integers(0, 99),
    class_names=st.lists(st.text(max_size=3), max_size=3),
    model=st.builds(ModelConfig, num_classes=st.integers(0, 9), stop_gradient_sim=st.booleans()),
    loss=st.builds(LossConfig, train_logits=st.just(True), train_sim=st.booleans(), margin=st.floats(0.125, 2)),
    training=st.builds(
        TrainConfig, batch_size=st.sampled_from([4, 64]), augmentation=st.lists(st.sampled_from(["crop", "fliplr"]), max_size=2)
    ),
)


@given(config=configs)
def test_a_configuration_comes_back_from_json_as_it_went(config: RunConfig):
    values = json.loads(json.dumps(config.to_dict()))
    assert values == config.to_dict()
    again = RunConfig.from_dict(values)
    assert again == config and again.digest() == config.digest() and hash(again) == hash(config)


def _changed(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, "more")
    if isinstance(value, str):
        return "cosine" if value == "constant" else f"{value}x"
    if isinstance(value, float):
        return value / 2 if 0 < value < 1 else value + 1
    return value + 2


@pytest.mark.parametrize("section", ["", "model", "loss", "training"])
def test_the_digest_changes_with_every_key(section: str):
    config = run(dev_percent=0.5)
    part = getattr(config, section) if section else config
    names = [field.name for field in dataclasses.fields(part) if not dataclasses.is_dataclass(getattr(part, field.name))]
    digests = {config.digest()}
    for name in names:
        if name == "train_logits":  # the only loss in use
            continue
        other = dataclasses.replace(part, **{name: _changed(getattr(part, name))})
        digests.add((dataclasses.replace(config, **{section: other}) if section else other).digest())
    assert len(digests) == 1 + len(names) - ("train_logits" in names)
    assert len(config.digest()) == 12 and config.digest() == run(dev_percent=0.5).digest()


def test_losses_are_named_in_a_fixed_order_with_their_weights():
    config = LossConfig(train_triplet=True, train_logits=True, triplet_weight=2, train_max_neg=True)
    assert config.names == ("logits", "max_neg", "triplet")
    assert (config.weight("triplet"), config.weight("logits")) == (2.0, 1.0)
    assert config.trains_similarity and not LOGITS.trains_similarity


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        run().seed = 3  # type: ignore[misc]
    assert strict(TrainConfig, {"augmentation": ["crop"]}).augmentation == ("crop",)


def test_a_trunk_that_nothing_would_teach_is_refused() -> None:
    alone = {"model": ModelConfig(stop_gradient_sim=True), "loss": LossConfig(train_sim=True)}
    with pytest.raises(UsageError, match="add --train_logits, or --freeze_backbone"):
        RunConfig(**alone)
    RunConfig(**alone, training=TrainConfig(freeze_backbone=True))
    RunConfig(model=alone["model"], loss=LossConfig(train_sim=True, train_logits=True))


def test_negative_weights_and_rates_are_refused() -> None:
    with pytest.raises(UsageError, match="--sim_weight must not be negative. Received -1.0"):
        LossConfig(train_sim=True, sim_weight=-1.0)
    with pytest.raises(UsageError, match="--classifier_lr_factor must be above 0. Received 0"):
        TrainConfig(classifier_lr_factor=0)
