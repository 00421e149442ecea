"""Compare a training step of the dual head with the same network in Keras' `fit`.

    python benchmarks/train_step.py [--batch_size=8] [--rounds=5] [--steps=2]
        [--frozen_images=512] [--json=train_step.json]

All contenders train ResNet-50 with the published strides from random weights, for 1,000 classes,
with `fit` over the same random pixels in memory at 224 px. One measurement is a call of `fit` over
--steps batches.

- `keras fit`: tf.keras.applications.ResNet50, average pooling, dense softmax, Adam
- `ours`: the dual head with the losses logits and sim, and both its optimizers
- `ours kept bn`: the same with --freeze_batch_norm
- `ours block3 on`: the same, with stem, block1 and block2 frozen: they are not computed backwards

bfloat16 is measured if the processor has it. Then the feature maps of --frozen_images drawn images
are stored and heads are trained on them, as --freeze_backbone does. The seconds for the 7,104
images of the challenge are scaled from that, not measured.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Seconds, Work, build_parser, interleaved, medians, timed, write_results

from data_io.batches import feature_batches
from data_io.datasets import load_dataset
from data_io.sampling import epoch_batches
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.features.feature_maps import stored_feature_maps
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.schema import Recipe
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import build_groups

SIZE = 224
NUM_CLASSES = 1000
SEED = 0
# Training images of the challenge.
NUM_CHALLENGE_IMAGES = 7104
PEER = "keras fit fp32"
EARLY_BLOCKS = "trunk/stem,trunk/block1,trunk/block2"
Fit = Callable[[np.ndarray, np.ndarray], tf.keras.callbacks.History]


def keras(batch_size: int) -> Fit:
    """Return `fit` of the network in Keras."""
    trunk = tf.keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3)
    )
    model = tf.keras.Sequential([trunk, tf.keras.layers.Dense(NUM_CLASSES, activation="softmax")])
    model.compile(tf.keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    return lambda images, labels: model.fit(images, labels, batch_size, shuffle=False, verbose=0)


def recipe_of(freeze_batch_norm: bool, freeze_trunk: bool = False) -> Recipe:
    """Return the recipe of the original's two heads with the published strides."""
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
    """Set up the training as a run does."""
    trunk = recipe.model.trunk
    groups = build_groups(recipe.optimizer, recipe.stages, 1, model.parameters(), trunk.frozen)
    objective = Objective(model.heads if trunk.is_frozen else model, recipe.losses)
    objective.prepare(groups)
    return objective


def ours(batch_size: int, freeze_batch_norm: bool, frozen: str = "") -> Fit:
    """Return `fit` of the dual head; `frozen` names parameter groups."""
    recipe = with_settings(recipe_of(freeze_batch_norm), [f"model.trunk.frozen={frozen}"])
    objective = objective_of(recipe, EmbeddingModel(recipe.model, NUM_CLASSES).build_variables())
    return lambda images, labels: objective.fit(
        images, labels, batch_size, shuffle=False, verbose=0
    )


def contenders(batch_size: int) -> dict[str, Fit]:
    """Return the contenders by name; a name ends in the precision."""
    fits = {PEER: keras(batch_size)}
    for precision in ("fp32", "bf16") if cpu_has_bfloat16() else ("fp32",):
        fits[f"ours {precision}"] = ours(batch_size, False)
        fits[f"ours kept bn {precision}"] = ours(batch_size, True)
        fits[f"ours block3 on {precision}"] = ours(batch_size, True, EARLY_BLOCKS)
    return fits


def measure_steps(batch_size: int, steps: int, rounds: int) -> dict[str, Seconds]:
    """Return the seconds of a call of `fit` by contender."""
    fits = contenders(batch_size)
    count = steps * batch_size
    rng = np.random.default_rng(SEED)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.float32)
    # Half of the pairs (0, 1), (2, 3), ... are of one class.
    labels = (np.arange(count) * 3 // 4).astype(np.int32)
    traced: set[str] = set()

    def prepare(name: str) -> None:
        # The precision applies when a function is called, not only when it is traced.
        set_mixed_precision("bfloat16" if name.endswith("bf16") else "off")
        # A call that traces, or follows a change of precision, must not be timed.
        if cpu_has_bfloat16() or name not in traced:
            fits[name](images[:batch_size], labels[:batch_size])
        traced.add(name)

    def fit_all(name: str) -> Work:
        def run() -> None:
            loss = fits[name](images, labels).history["loss"][-1]
            if not np.isfinite(loss):
                raise ValueError(f"{name}: the loss is not finite, which can change the speed.")

        return run

    return interleaved({name: fit_all(name) for name in fits}, rounds, prepare=prepare)


def measure_frozen(
    num_images: int, batch_size: int, head_batch_size: int, rounds: int
) -> dict[str, Seconds]:
    """Return the seconds to store feature maps, and to train heads on them for one epoch."""
    recipe = recipe_of(freeze_batch_norm=True, freeze_trunk=True)
    model = EmbeddingModel(recipe.model, NUM_CLASSES).build_variables()
    sizes = DrawConfig(
        num_classes=num_images // 7, num_train=num_images, num_queries=1, num_gallery=1
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_dataset(Path(folder) / "drawn", sizes, progress=False)
        images = load_dataset(str(drawn)).train
        maps_folder = Path(folder) / "features"
        maps, storing = timed(
            lambda: stored_feature_maps(model, SIZE, images, maps_folder, batch_size)
        )
        labels = images.known_labels("training")
        objective = objective_of(recipe, model)

        def train_epoch(epoch: int) -> Work:
            rows = epoch_batches(labels, head_batch_size, SEED, epoch, "pairs")
            batches = feature_batches(maps, labels, rows)
            return lambda: objective.fit(batches, verbose=0)

        epochs = [timed(train_epoch(epoch))[1] for epoch in range(rounds + 1)]
    # The first epoch traces.
    return {"storing feature maps": storing, "epoch on a frozen trunk": medians(epochs[1:])}


def print_steps(times: dict[str, Seconds], count: int) -> dict[str, dict[str, float]]:
    """Print and return the figures of each contender for `count` images."""
    peer_wall, peer_cpu = times[PEER]
    rows = {}
    for name, (wall, cpu) in times.items():
        rows[name] = {
            "wall_s_per_image": wall / count,
            "cpu_s_per_image": cpu / count,
            "wall_ratio": peer_wall / wall,
            "cpu_ratio": peer_cpu / cpu,
        }
        print(
            f"{name:<24} {count / wall:7.2f} images/s {wall / count:7.3f} s "
            f"{cpu / count:7.3f} CPU-s per image {peer_cpu / cpu:5.2f}x of keras by CPU "
            f"{peer_wall / wall:5.2f}x by wall"
        )
    return rows


def print_frozen(times: dict[str, Seconds], count: int) -> dict[str, dict[str, float]]:
    """Print and return the figures of a frozen trunk for `count` images."""
    rows = {}
    for name, (wall, cpu) in times.items():
        epoch_s = NUM_CHALLENGE_IMAGES * wall / count
        rows[name] = {
            "images_per_s": count / wall,
            "cpu_s_per_image": cpu / count,
            "scaled_epoch_s": epoch_s,
        }
        print(
            f"{name:<24} {count / wall:7.1f} images/s over {count}; "
            f"scaled to {NUM_CHALLENGE_IMAGES:,}: {epoch_s:.1f} s"
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    add = parser.add_argument
    add("--batch_size", type=int, default=8, help="images per step (default: %(default)s)")
    add("--steps", type=int, default=2, help="steps per call of `fit` (default: %(default)s)")
    frozen_help = "images for the frozen trunk (default: %(default)s)"
    add("--frozen_images", type=int, default=512, help=frozen_help)
    head_help = "images per step on the frozen trunk (default: %(default)s)"
    add("--head_batch_size", type=int, default=64, help=head_help)
    options = parser.parse_args()

    times = measure_steps(options.batch_size, options.steps, options.rounds)
    rows = print_steps(times, options.steps * options.batch_size)
    print(f"mixed precision on the frozen trunk: {set_mixed_precision('auto')}")
    times = measure_frozen(
        options.frozen_images, options.batch_size, options.head_batch_size, options.rounds
    )
    rows |= print_frozen(times, options.frozen_images)
    flags = {name: value for name, value in vars(options).items() if name != "json"}
    write_results(options.json, SEED, rows, **flags)


if __name__ == "__main__":
    main()
