"""One training of one recipe: images, model, batches and evaluation, and the run that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_io.artifacts import write_text
from data_io.augmentation import side_before
from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet
from data_io.images import check_images
from data_io.messages import shown_path, skipped_lines
from data_io.progress import Log
from data_io.records import ImageList
from data_io.sampling import epoch_batches
from data_io.splits import dense_labels
from data_io.stores.pixels import PixelCache
from delf_ext.app.data import Split, content_of, split
from delf_ext.app.starting_weights import copy_weights, parent_recipe
from delf_ext.app.trainable import augmentations, require_trainable
from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError
from delf_ext.recipes import codec, schema
from delf_ext.recipes.changes import with_epochs
from delf_ext.runs import run_directory
from delf_ext.runs.layouts import with_layout
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import read_run, write_run

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel
    from delf_ext.training.loop import Evaluate, Listener


@dataclass
class Job:
    """One training: what its steps share."""

    recipe: schema.Recipe
    data: DataSet
    run_dir: Path
    settings: Settings
    log: Log
    held_out: tuple[str, ...] = ()  # what the run has held back already, when it is continued

    def __post_init__(self) -> None:
        require_trainable(self.recipe)
        images = self._readable(self.data.train)
        parts = split(images, self.data, self.recipe.validation, self.settings.seed, self.held_out)
        self.images, originals = dense_labels(parts.train)
        self.split: Split = parts
        self.class_names = tuple(self.data.class_names[label] for label in originals)
        self._say_what()  # and refuses a sampling that the classes do not allow, before anything is built

    def _readable(self, images: ImageList) -> ImageList:
        """Return the images that can be decoded."""
        if not len(images):
            raise ValueError("the data has no training images.")
        most = self.settings.max_images
        images = check_images(images.take(np.arange(most)) if 0 < most < len(images) else images)
        for line in skipped_lines(images.skipped):
            self.log(line)
        if not len(images):
            raise ValueError("none of the training images could be read.")
        return images

    def _say_what(self) -> None:
        counts = np.bincount(self.images.known_labels("training"))
        if len(counts) < 2:
            raise ValueError(
                f"training needs at least 2 classes. Received {len(counts)} (after validation took its share)."
            )
        self.log(f"run directory: {shown_path(self.run_dir)}")
        dev = (
            f"{len(self.split.query)} queries, {self.split.description}"
            if len(self.split.query)
            else "none"
        )
        self.log(
            f"training {self.recipe.name} on {len(self.images)} images of {len(counts)} classes for "
            f"{self.recipe.epochs} epochs of {len(self.plan(0))} steps; validation: {dev}"
        )
        if (counts == 1).any():
            self.log(f"{(counts == 1).sum()} classes have one image: their pairs show it twice")

    def plan(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch's batches, [steps, batch size]."""
        sampling, labels = self.recipe.sampling, self.images.known_labels("training")
        seed = self.settings.seed
        if isinstance(sampling, schema.PxK):
            return epoch_batches(
                labels, sampling.batch_size, seed, epoch, "classes", sampling.images
            )
        kind = "pairs" if isinstance(sampling, schema.Pairs) else "shuffled"
        return epoch_batches(labels, sampling.batch_size, seed, epoch, kind)

    def begin(
        self, weights: str, from_run: str | Path | None, place: str, infer: dict[str, Any]
    ) -> EmbeddingModel:
        """Return the model as it starts, and make the run; nothing is written when the weights do not fit."""
        trunk = self.recipe.model.trunk
        weights = "" if from_run is not None else weights or trunk.weights
        if (
            from_run is not None and trunk.layout == "auto"
        ):  # weights of another layout load and work badly
            trunk = dataclasses.replace(trunk, layout=parent_recipe(from_run).model.trunk.layout)
        self._decide_trunk(
            with_layout(dataclasses.replace(trunk, weights=weights), weights, self.log)
        )
        model = self._built()
        history = [f"made with seed {self.settings.seed}"]
        report = ""
        if from_run is not None:
            history += copy_weights(read_run(from_run), model, self.recipe, self.log)
        elif weights:
            report = str(model.trunk.load(weights))
            self.log(report)
        else:
            self.log("no --pretrained_model: the trunk starts from random weights")
        facts = Facts(
            data=place or self.data.name,
            data_digest=content_of(self.images),
            class_names=self.class_names,
            held_out=self.split.held_out,
            weights=weights,
            settings=dataclasses.asdict(self.settings),
            infer=run_directory.jsonable(infer),
            history=tuple(history),
            versions=run_directory.versions(),
            commit=run_directory.commit(),
        )
        if report:
            write_text(self.run_dir / "load_report.txt", f"{report}\n")
        write_run(self.run_dir, "recipe", codec.to_json(self.recipe), facts)
        return model

    def _decide_trunk(self, trunk: schema.Trunk) -> None:
        self.recipe = dataclasses.replace(
            self.recipe, model=dataclasses.replace(self.recipe.model, trunk=trunk)
        )

    def open(self, run: Run, epochs: int | None) -> EmbeddingModel:
        """Return the model of the run that is continued, with the weights that it has saved last.

        Raises: ValueError when the training images are others now.
        """
        if run.facts.class_names != self.class_names:
            raise ValueError(
                f"{self.run_dir}: was trained on {len(run.facts.class_names)} classes, the data now give "
                f"{len(self.class_names)} or others: start a new run."
            )
        if run.facts.data_digest != content_of(self.images):
            raise ValueError(
                f"{self.run_dir}: the training images have changed since it was made: start a new run."
            )
        what = "resumed"
        done = max(CheckpointFolder(run.checkpoints, "last").numbers(), default=0)
        if epochs is not None and epochs * len(self.plan(0)) < done:
            raise UsageError(
                f"--epochs={epochs}: the run has been trained for {done / len(self.plan(0)):.1f} epochs already."
            )
        if epochs is not None and epochs != self.recipe.epochs:
            what += f", epochs {self.recipe.epochs} -> {epochs}"
            self.recipe = with_epochs(self.recipe, epochs)
        from delf_ext.models.embedding_model import read_weights

        model = self._built()
        newest = CheckpointFolder(run.checkpoints, "last").newest()
        if newest is not None:  # a frozen trunk's feature maps are made with these weights
            read_weights(model, newest)
        facts = dataclasses.replace(run.facts, history=(*run.facts.history, what))
        write_run(run.path, run.kind, codec.to_json(self.recipe), facts)
        return model

    def _built(self) -> EmbeddingModel:
        import tensorflow as tf

        from delf_ext.models.embedding_model import EmbeddingModel
        from delf_ext.models.precision import set_mixed_precision
        from delf_ext.training.optimizers import require_groups

        tf.keras.utils.set_random_seed(self.settings.seed)
        if self.settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        choice = "off" if self.recipe.limits.float32 else self.settings.mixed_precision
        self.log(f"mixed precision: {set_mixed_precision(choice)}")
        model = EmbeddingModel(self.recipe.model, len(self.class_names)).build_variables()
        require_groups(self.recipe, model.parameters())
        return model

    def fit(
        self, model: EmbeddingModel, resume: bool, listener: Listener | None
    ) -> Mapping[str, float]:
        """Train, and return the means of the last epoch."""
        from delf_ext.training.loop import Progress, train

        progress = Progress(
            run_dir=self.run_dir,
            log=self.log,
            evaluate=self._evaluation(model),
            listener=listener,
            resume=resume,
            checkpoint_every_steps=self.settings.checkpoint_every_steps,
        )
        return train(self.recipe, model, self._batches(model), len(self.plan(0)), progress)

    def _batches(self, model: EmbeddingModel) -> Callable[[int, int], Any]:
        """Return (epoch, first step) -> tf.data of images, or of stored feature maps when the trunk is frozen."""
        from data_io.batches import feature_batches, image_batches
        from delf_ext.training.loop import stage_of

        recipe, settings = self.recipe, self.settings
        if recipe.model.trunk.is_frozen:
            from delf_ext.features.feature_maps import stored_feature_maps

            folder = self.run_dir / "features"
            maps = stored_feature_maps(
                model, recipe.input.size_px, self.images, folder, recipe.batch_size
            )
            labels = self.images.known_labels("training")
            return lambda epoch, first: feature_batches(maps, labels, self.plan(epoch), first)
        changes = augmentations(recipe.input)
        cache = settings.pixel_cache or None
        if cache:
            kept = PixelCache(cache, side_before(recipe.input.size_px, changes))
            self.log(kept.statement(len(self.images)))

        def batches(epoch: int, first: int) -> Any:
            size_px = stage_of(recipe.stages, epoch).size_px or recipe.input.size_px
            return image_batches(
                self.images, self.plan(epoch), size_px, changes, settings.seed, epoch, first, cache
            )

        return batches

    def _evaluation(self, model: EmbeddingModel) -> Evaluate | None:
        """Return what measures the model on the validation lists; None without any."""
        if not len(self.split.query):
            return None
        from delf_ext.app.evaluators import build_evaluator
        from delf_ext.features.network_embedders import live_embedder

        embedder = live_embedder(model, self.recipe.final_size_px, "validation")
        evaluator = build_evaluator(
            self.recipe.task, self.split.query, self.split.gallery, self.recipe.batch_size
        )
        return lambda: dict(evaluator(embedder))
