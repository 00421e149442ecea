"""train: from a data set and flags to a run directory with a network, its features, its figures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_io.artifacts import write_json, write_text
from data_io.augmentation import AUGMENTATIONS, side_before
from data_io.datasets import DataSet, load_dataset
from data_io.images import check_images
from data_io.pixel_cache import PixelCache
from data_io.records import ImageList
from data_io.sampling import epoch_batches
from data_io.splits import dense_labels, query_and_gallery
from delf_ext import nsml
from delf_ext.config import LossConfig, ModelConfig, RunConfig, TrainConfig, UsageError
from delf_ext.verbs import session
from delf_ext.verbs.data import dev_split, resolve_data
from delf_ext.verbs.weights import resolve_layout

DEBUG = {"epochs": 2, "eval_every_steps": 5}
DEBUG_IMAGES = 240


def run(flags: Any) -> None:
    if flags.mode == "test":
        session.submit(flags)
        return
    if flags.resume:
        config, run_dir = _continued(flags)
    else:
        config = dataclasses.replace(config_from_flags(flags), data=str(Path(resolve_data(flags)).absolute()))
        run_dir = Path(flags.run_dir or (session.RUN_DIR if nsml.IS_ON_NSML else time.strftime("runs/%Y%m%d-%H%M%S")))
    listener = session.Training(run_dir, config.training.epochs) if nsml.IS_ON_NSML else None
    if flags.pause:
        nsml.paused(scope={"listener": listener})  # a fork: loads the checkpoint that it goes on from
    resume = flags.resume or bool(nsml.IS_ON_NSML and flags.pause)
    data = load_dataset(config.data, flags.query_split)
    train_run(config, data, run_dir, resume, pixel_cache=flags.pixel_cache, listener=listener)


def config_from_flags(flags: Any) -> RunConfig:
    """Raises: UsageError naming the flag that does not fit."""
    chosen = tuple(name for name in AUGMENTATIONS if flags[name].value)
    if chosen and not flags.augmentation:
        raise UsageError(f"--{chosen[0]} works with --augmentation; pass both.")
    quick = {name: value for name, value in DEBUG.items() if flags.debug and not flags[name].present}
    loss = _section(LossConfig, flags)
    layout = resolve_layout(flags.pretrained_model, flags.layout, flags.resnet_type)
    model = _section(ModelConfig, flags, endpoint=flags.resnet_type, layout=layout, similarity_head=loss.trains_similarity)
    training = _section(TrainConfig, flags, augmentation=chosen or (("crop", "fliplr") if flags.augmentation else ()), **quick)
    weights = str(Path(flags.pretrained_model).absolute()) if flags.pretrained_model else ""
    images = DEBUG_IMAGES if flags.debug else 0
    return _section(
        RunConfig, flags, data="", pretrained_model=weights, first_images=images, model=model, loss=loss, training=training
    )


def _section(kind: type, flags: Any, **values: Any) -> Any:
    """A configuration whose fields are the flags of the same name, but for those given."""
    named = {field.name: flags[field.name].value for field in dataclasses.fields(kind) if field.name in flags}
    return kind(**{**named, **values})


def _continued(flags: Any) -> tuple[RunConfig, Path]:
    """The configuration of the run to resume; --epochs may be raised, everything else stays."""
    if not flags.run_dir:
        raise UsageError("--resume continues a run: pass its directory with --run_dir.")
    from delf_ext.features.embedders import read_run_config

    config = read_run_config(flags.run_dir)
    if flags["epochs"].present:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=flags.epochs))
    return config, Path(flags.run_dir)


def train_run(
    config: RunConfig,
    data: DataSet,
    run_dir: Path,
    resume: bool = False,
    evaluate: bool = True,
    pixel_cache: str | None = None,
    listener: Any = None,
) -> None:
    """Trains, keeps the best weights by dev mAP and, with `evaluate`, scores them on the data's own queries.

    pixel_cache: folder that keeps decoded photographs for the epochs after the first. listener: `training.loop.Listener`.
    Raises: ValueError on data that cannot be trained on, or a directory that holds a run already.
    """
    if not resume and ((run_dir / "config.json").exists() or (run_dir / "checkpoint").exists()):
        raise ValueError(f"{run_dir}: holds a run already. Continue it with --resume, or choose another --run_dir.")
    images, dev = dev_split(_readable(data.train, config.first_images), config)
    images, originals = dense_labels(images)
    _say_what(images, dev, run_dir)
    plan = _plan(images, config)
    config = _with_classes(config, tuple(data.class_names[label] for label in originals))
    network = _initial_network(config, run_dir)
    write_json(run_dir / "config.json", config.to_dict())  # now that the weights have loaded, it is a run

    from delf_ext.training.loop import train
    from delf_ext.training.objective import Objective

    trained = network.heads if config.training.freeze_backbone else network
    objective = Objective(trained, config.loss, network.heads.classifier_variables)
    batches = _batches(network, images, plan, config, run_dir, pixel_cache)
    evaluate_dev = _dev_evaluation(network, dev, config)
    train(objective, network, batches, len(plan(0)), config.training, run_dir, evaluate_dev, resume, listener)
    if evaluate:
        _evaluate(run_dir, data, config)


def _readable(images: ImageList, first_images: int) -> ImageList:
    """The images that can be decoded; under --debug of the first classes only."""
    if not len(images):
        raise ValueError("the data have no training images.")
    images = check_images(images.take(np.arange(first_images)) if 0 < first_images < len(images) else images)
    for path, reason in images.skipped[:5]:
        print(f"skipped {path}: {reason}")
    if images.skipped:
        print(f"skipped {len(images.skipped)} files in all")
    if not len(images):
        raise ValueError("none of the training images could be read.")
    return images


def _say_what(images: ImageList, dev: ImageList, run_dir: Path) -> None:
    counts = np.bincount(images.known_labels("training"))
    if len(counts) < 2:
        raise ValueError(f"training needs at least 2 classes. Received {len(counts)} (after --dev_percent took its share).")
    print(f"run directory: {run_dir}")
    print(f"training on {len(images)} images of {len(counts)} classes; dev: {len(dev)} images of other classes", flush=True)
    if (counts == 1).any():
        print(f"{(counts == 1).sum()} classes have one image: their pairs show it twice")


def _with_classes(config: RunConfig, names: tuple[str, ...]) -> RunConfig:
    num_classes = len(names) if config.loss.train_logits else 0
    return dataclasses.replace(config, class_names=names, model=dataclasses.replace(config.model, num_classes=num_classes))


def _plan(images: ImageList, config: RunConfig) -> Callable[[int], np.ndarray]:
    """epoch -> its batches: P x K where the losses look for hard examples, pairs where they compare, else shuffled."""
    hard = config.loss.train_triplet or config.loss.train_max_neg
    per_class = config.training.images_per_class or (4 if hard else 0)
    sampler = "classes" if per_class else "pairs" if config.loss.trains_similarity else "shuffled"
    labels, size = images.known_labels("training"), config.training.batch_size
    return lambda epoch: epoch_batches(labels, size, config.seed, epoch, sampler, per_class)


def _initial_network(config: RunConfig, run_dir: Path) -> Any:
    """The network as it starts, with what was loaded of the checkpoint printed and kept in load_report.txt."""
    import tensorflow as tf

    from delf_ext.models.checkpoints import load_backbone
    from delf_ext.models.dual_head import DualHead
    from delf_ext.models.precision import set_mixed_precision

    tf.keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    print(f"mixed precision: {set_mixed_precision(config.mixed_precision)}", flush=True)
    network = DualHead(config.model).build_variables()
    if config.pretrained_model:
        report = load_backbone(network.backbone, config.pretrained_model)
        write_text(run_dir / "load_report.txt", f"{report}\n")
        print(report, flush=True)
    else:
        print("no --pretrained_model: the trunk starts from random weights", flush=True)
    return network


def _batches(
    network: Any,
    images: ImageList,
    plan: Callable[[int], np.ndarray],
    config: RunConfig,
    run_dir: Path,
    pixel_cache: str | None,
) -> Callable:
    """(epoch, first step) -> tf.data of images, or of stored feature maps when the trunk is frozen."""
    from data_io.batches import feature_batches, image_batches

    if config.training.freeze_backbone:
        from delf_ext.features.feature_maps import stored_feature_maps

        maps = stored_feature_maps(network, images, run_dir / "features", config.training.batch_size)
        labels = images.known_labels("training")
        return lambda epoch, first: feature_batches(maps, labels, plan(epoch), first)
    size, names = config.model.image_size, config.training.augmentation
    if pixel_cache:
        print(PixelCache(pixel_cache, side_before(size, names)).statement(len(images)), flush=True)
    return lambda epoch, first: image_batches(images, plan(epoch), size, names, config.seed, epoch, first, pixel_cache)


def _dev_evaluation(network: Any, dev: ImageList, config: RunConfig) -> Callable[[], Mapping[str, float]] | None:
    """None without a dev split, or where none of its classes has two images."""
    if not len(dev) or np.bincount(dev.known_labels("dev evaluation")).max() < 2:
        return None
    from delf_ext.evaluation.metrics import summarize
    from delf_ext.features.embedders import network_embedder
    from delf_ext.pipeline import embed, score, truth_of

    query, gallery = query_and_gallery(dev, config.dev_querynum, config.dev_referencenum, config.seed)
    embedder = network_embedder(network, "dev")

    def measured() -> Mapping[str, float]:
        retrieval = embed(embedder, query, gallery, config.training.batch_size)
        return dict(summarize(score(retrieval, truth_of(retrieval))))

    return measured


def _evaluate(run_dir: Path, data: DataSet, config: RunConfig) -> None:
    if len(data.query) and data.query.labels is not None and data.gallery.labels is not None:
        from delf_ext.verbs.evaluate import evaluate_run

        evaluate_run(run_dir, data, config.data, config.seed, config.training.batch_size)
    else:
        scored = f"nsml submit {nsml.SESSION_NAME}" if nsml.IS_ON_NSML else f"mandoo evaluate --run_dir={run_dir} --data=..."
        print(f"trained: {run_dir}. Score it with: {scored}")
