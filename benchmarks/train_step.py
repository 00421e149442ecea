"""A training step of the dual head against the same network in plain Keras `fit`; an epoch of heads on a frozen trunk.

    python benchmarks/train_step.py [--batch_size=8] [--rounds=5] [--steps=2] [--frozen_images=512] [--json=train_step.json]

All train ResNet-50 with the published strides at 224 px from random weights, for 1,000 classes, through `fit` over the same
random pixels in memory: no decoding. `keras` is tf.keras.applications.ResNet50, average pooling, dense softmax, Adam. `ours` is
the dual head with the losses logits and sim and both its optimizers; `kept bn` the same with --freeze_batch_norm. In turn,
medians of `rounds` calls of `fit` over `steps` batches, after a first one that traces; wall and CPU-seconds (all threads).
bfloat16 where the processor has it.
The frozen trunk: feature maps of so many drawn photographs are stored, then heads train on them, as --freeze_backbone does.
Seconds for the challenge's 7,104 images are scaled by their count, not measured; the maps are still in memory when they are read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Seconds, medians, timed, write_results

from data_io.batches import feature_batches
from data_io.datasets import load_dataset
from data_io.sampling import epoch_batches
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.features.feature_maps import stored_feature_maps
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.schema import Recipe
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import build_groups

SIZE, CLASSES, EPOCH, SEED = 224, 1000, 7104, 0
Fit = Callable[[np.ndarray, np.ndarray], tf.keras.callbacks.History]


def keras(batch_size: int) -> Fit:
    trunk = tf.keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3)
    )
    model = tf.keras.Sequential([trunk, tf.keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(tf.keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    return lambda images, labels: model.fit(images, labels, batch_size, shuffle=False, verbose=0)


def recipe_of(freeze_batch_norm: bool, freeze_trunk: bool = False) -> Recipe:
    """The original's two heads with the published strides."""
    return from_flags(
        {
            "train_logits": True,
            "train_sim": True,
            "layout": "keras",
            "image_size": SIZE,
            "freeze_batch_norm": freeze_batch_norm,
            "freeze_backbone": freeze_trunk,
        }
    )


def objective_of(recipe: Recipe, model: EmbeddingModel) -> Objective:
    """As a training run sets it up."""
    trunk = recipe.model.trunk
    groups = build_groups(recipe.optimizer, recipe.stages, 1, model.parameters(), trunk.frozen)
    objective = Objective(model.heads if trunk.is_frozen else model, recipe.losses)
    objective.prepare(groups)
    return objective


def ours(batch_size: int, freeze_batch_norm: bool) -> Fit:
    recipe = recipe_of(freeze_batch_norm)
    objective = objective_of(recipe, EmbeddingModel(recipe.model, CLASSES).build_variables())
    return lambda images, labels: objective.fit(
        images, labels, batch_size, shuffle=False, verbose=0
    )


def contenders(batch_size: int) -> dict[str, Fit]:
    """The name ends in the precision."""
    made = {"keras fit fp32": keras(batch_size)}
    for precision in ("fp32", "bf16") if cpu_has_bfloat16() else ("fp32",):
        made[f"ours {precision}"] = ours(batch_size, False)
        made[f"ours kept bn {precision}"] = ours(batch_size, True)
    return made


def interleaved(
    made: dict[str, Fit], batch_size: int, steps: int, rounds: int
) -> dict[str, list[Seconds]]:
    images = (
        np.random.default_rng(SEED)
        .integers(0, 256, (steps * batch_size, SIZE, SIZE, 3))
        .astype(np.float32)
    )
    labels = (np.arange(steps * batch_size) * 3 // 4).astype(
        np.int32
    )  # of the pairs (0, 1), (2, 3), ... half are of one class
    times: dict[str, list[Seconds]] = {name: [] for name in made}
    for round_number in range(-1, rounds):
        for name, fit in made.items():
            set_mixed_precision(
                "bfloat16" if name.endswith("bf16") else "off"
            )  # holds for calls, not only for tracing
            if cpu_has_bfloat16() or round_number < 0:
                fit(
                    images[:batch_size], labels[:batch_size]
                )  # so that a change of precision is paid outside the clock
            history, measured = timed(lambda fit=fit: fit(images, labels))
            if not np.isfinite(history.history["loss"][-1]):
                raise ValueError(
                    f"{name}: the loss is no longer finite, and speed may depend on it."
                )
            if round_number >= 0:
                times[name].append(measured)
    return times


def frozen(
    num_images: int, batch_size: int, head_batch_size: int, rounds: int
) -> dict[str, Seconds]:
    """Seconds for storing the maps of so many photographs, and for an epoch of the heads on them."""
    recipe = recipe_of(freeze_batch_norm=True, freeze_trunk=True)
    model = EmbeddingModel(recipe.model, CLASSES).build_variables()
    with tempfile.TemporaryDirectory() as folder:
        sizes = DrawConfig(
            num_classes=num_images // 7, num_train=num_images, num_queries=1, num_gallery=1
        )
        images = load_dataset(
            str(draw_dataset(Path(folder) / "drawn", sizes, progress=False))
        ).train
        kept = Path(folder) / "features"
        maps, stored = timed(lambda: stored_feature_maps(model, SIZE, images, kept, batch_size))
        labels = images.known_labels("training")
        objective = objective_of(recipe, model)
        epochs = []
        for epoch in range(rounds + 1):
            batches = feature_batches(
                maps, labels, epoch_batches(labels, head_batch_size, SEED, epoch, "pairs")
            )
            epochs.append(timed(lambda batches=batches: objective.fit(batches, verbose=0))[1])
    return {
        "storing feature maps": stored,
        "epoch on a frozen trunk": medians(epochs[1:]),
    }  # the first one traces


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frozen_images", type=int, default=512)
    parser.add_argument("--head_batch_size", type=int, default=64)
    parser.add_argument("--json")
    options = parser.parse_args()

    made = contenders(options.batch_size)
    measured = {
        name: medians(times)
        for name, times in interleaved(
            made, options.batch_size, options.steps, options.rounds
        ).items()
    }
    peer_wall, peer_cpu = measured["keras fit fp32"]
    count, rows = options.steps * options.batch_size, {}
    for name, (wall, cpu) in measured.items():
        rows[name] = {"wall_s_per_image": wall / count, "cpu_s_per_image": cpu / count}
        rows[name] |= {"wall_ratio": peer_wall / wall, "cpu_ratio": peer_cpu / cpu}
        print(
            f"{name:<24} {count / wall:7.2f} images/s {wall / count:7.3f} s {cpu / count:7.3f} CPU-s per image"
            f" {peer_cpu / cpu:5.2f}x of keras by CPU {peer_wall / wall:5.2f}x by wall"
        )

    print(f"mixed precision on the frozen trunk: {set_mixed_precision('auto')}")
    for name, (wall, cpu) in frozen(
        options.frozen_images, options.batch_size, options.head_batch_size, options.rounds
    ).items():
        per_s, epoch_s = options.frozen_images / wall, EPOCH * wall / options.frozen_images
        rows[name] = {
            "images_per_s": per_s,
            "cpu_s_per_image": cpu / options.frozen_images,
            "scaled_epoch_s": epoch_s,
        }
        print(
            f"{name:<24} {per_s:7.1f} images/s over {options.frozen_images}; scaled to {EPOCH:,}: {epoch_s:.1f} s"
        )
    write_results(
        options.json,
        SEED,
        rows,
        **{name: value for name, value in vars(options).items() if name != "json"},
    )


if __name__ == "__main__":
    main()
