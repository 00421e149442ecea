"""Compare the augmentation of training images with tf.image, and with the cost of the model.

    python benchmarks/augment.py [--sizes 224 288] [--images=64] [--rounds=3] [--json=augment.json]

Each contender reads drawn JPEG files (640 x 480, see decode.py) and yields batches of 32 square
images, with tf.data:

- `plain`: decoded and resized, nothing else
- `winner`: mirror, shift-scale-rotate and cutout, as the winner of the 2018 Lotte competition
- `standard`: random resized crop, mirror, colour jitter and CutMix
- `tf.image`: decode_jpeg, sample_distorted_bounding_box, resize, mirror, brightness, contrast and
  saturation; without CutMix

`cached` reads squares from a filled pixel cache. Printed are CPU milliseconds per image, the ratio
to `tf.image`, and the share of a training step of the dual head (ResNet-50, all blocks, batch norm
in inference mode, bfloat16 if the processor has it), which is measured in the same process at 224
px, and scaled by the pixels.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import train_step
from decode import draw
from measuring import Work, build_parser, interleaved, timed, write_results

from data_io.augmentation import Changes
from data_io.batches import image_batches
from data_io.records import ImageList
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision

SEED = 0
BATCH_SIZE = 32
WIDTH = 640
NUM_FILES = 8
STEP_IMAGES = 8
PEER = "tf.image"
CHANGES: dict[str, Changes] = {
    "plain": {},
    "winner": {"mirror_left_right": {}, "shift_scale_rotate": {}, "cutout": {}},
    "standard": {
        "random_resized_crop": {},
        "mirror_left_right": {},
        "colour_jitter": {"strength": 0.3},
        "cut_mix": {"alpha": 1.0, "probability": 0.5},
    },
}


def tf_image(paths: list[str], size_px: int) -> tf.data.Dataset:
    """Augment with the functions of TensorFlow."""
    whole = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])

    def load(path: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(pixels), whole, area_range=(0.35, 1.0), aspect_ratio_range=(0.75, 4 / 3)
        )
        image = tf.image.resize(tf.slice(pixels, begin, size), (size_px, size_px), antialias=True)
        image = tf.image.random_flip_left_right(image)
        image = tf.image.random_brightness(image, 0.3 * 255)
        image = tf.image.random_contrast(image, 0.7, 1.3)
        image = tf.image.random_saturation(image, 0.7, 1.3)
        return tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    return dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(2)


def contenders(paths: list[str], size_px: int, cache: Path) -> dict[str, Work]:
    """Return the contenders by name; each call yields all images."""
    labels = np.arange(len(paths)) % 10
    images = ImageList([str(row) for row in range(len(paths))], paths, labels=labels)
    batches = np.arange(len(paths)).reshape(-1, BATCH_SIZE)

    def ours(changes: Changes, folder: Path | None) -> Work:
        def run() -> int:
            dataset = image_batches(images, batches, size_px, changes, SEED, 0, 0, folder)
            return sum(1 for _ in dataset)

        return run

    work: dict[str, Work] = {PEER: lambda: sum(1 for _ in tf_image(paths, size_px))}
    for name, changes in CHANGES.items():
        work[name] = ours(changes, None)
        work[f"{name} cached"] = ours(changes, cache)
    return work


def step_cpu_s() -> float:
    """Return the CPU seconds of a training step of ResNet-50, per image."""
    set_mixed_precision("bfloat16" if cpu_has_bfloat16() else "off")
    fit = train_step.ours(STEP_IMAGES, freeze_batch_norm=True)
    side = train_step.SIZE
    rng = np.random.default_rng(SEED)
    pixels = rng.integers(0, 256, (STEP_IMAGES, side, side, 3)).astype(np.float32)
    labels = np.arange(STEP_IMAGES, dtype=np.int32) // 2
    fit(pixels, labels)
    _, (_, cpu_s) = timed(lambda: fit(pixels, labels))
    return cpu_s / STEP_IMAGES


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__, rounds=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 288], help="image sizes")
    parser.add_argument("--images", type=int, default=64, help="images (default: %(default)s)")
    options = parser.parse_args()
    step_s = step_cpu_s()
    print(f"a training step at {train_step.SIZE} px: {1000 * step_s:.0f} CPU-ms per image")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(SEED)
        files = [Path(folder) / f"{number}.jpg" for number in range(NUM_FILES)]
        for file in files:
            draw(file, WIDTH, rng)
        num_images = -(-options.images // BATCH_SIZE) * BATCH_SIZE
        paths = [str(files[row % NUM_FILES]) for row in range(num_images)]
        for size_px in options.sizes:
            work = contenders(paths, size_px, Path(folder) / "cache")
            # The model costs in proportion to the pixels.
            model_s = step_s * (size_px / train_step.SIZE) ** 2
            times = interleaved(work, options.rounds)
            for name, (_, cpu_s) in times.items():
                row = {
                    "cpu_ms": 1000 * cpu_s / num_images,
                    "ratio": times[PEER][1] / cpu_s,
                    "share_of_model": cpu_s / num_images / model_s,
                }
                results[f"{name} {size_px}"] = row
                print(
                    f"{size_px} px {name:<16} {row['cpu_ms']:6.2f} CPU-ms  {row['ratio']:5.2f}x of "
                    f"{PEER}  {row['share_of_model']:6.1%} of the model"
                )
    write_results(options.json, SEED, results, rounds=options.rounds, step_cpu_s=step_s)


if __name__ == "__main__":
    main()
