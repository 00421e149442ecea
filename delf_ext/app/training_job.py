"""Train one recipe: choose the images, build the model, feed it, and write the run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet
from data_io.datasets.data_set import counted
from data_io.duplicates import find_duplicates
from data_io.files.artifacts import write_text
from data_io.files.contents import contents_of
from data_io.files.skipped_files import mostly_skipped
from data_io.images import check_images
from data_io.messages import shown_path, skipped_lines
from data_io.photographs import Photographs, digests_of
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.splits import dense_labels
from delf_ext.app.data import Split, content_of, split
from delf_ext.app.resumed_data import Resumed
from delf_ext.app.run_reduction import require_fitting
from delf_ext.app.starting_weights import copy_weights, in_layout_of
from delf_ext.app.trainable import require_trainable
from delf_ext.app.training_batches import (
    AUGMENTED,
    Batches,
    batches_of_feature_maps,
    batches_of_images,
    draw_first_batch,
    plan_epoch,
)
from delf_ext.app.training_settings import Settings
from delf_ext.recipes import codec, schema
from delf_ext.runs import run_directory
from delf_ext.runs.photographs import read_photographs, write_photographs
from delf_ext.runs.recipe_run import logits_of
from delf_ext.runs.records import Facts
from delf_ext.runs.run_directory import read_run, write_run
from delf_ext.runs.weights import find_weights

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel
    from delf_ext.training.loop import Evaluate, Listener, Prepared


@dataclass
class Job:
    """One training of one recipe.

    Attributes:
        recipe: the recipe; the layout of its trunk is decided when the run starts.
        data: the data set.
        run_dir: the run directory.
        settings: seed and other settings beside the recipe.
        log: called with each log line.
        resumed: the run that is continued; None for a new run.
        decodes: decode each file first, and leave out those that cannot be read.
        images: training images without the validation images; labels run from 0 without a gap.
        split: the split that `images` come from.
        class_names: name of each label.
        warning: a line to show last, if most images of a folder were skipped; else "".

    Raises:
        UsageError: a part of the recipe cannot be trained.
        ValueError: the images or classes do not allow this training.
    """

    recipe: schema.Recipe
    data: DataSet
    run_dir: Path
    settings: Settings
    log: Log
    resumed: Resumed | None = None
    decodes: bool = True
    images: ImageList = field(init=False)
    split: Split = field(init=False)
    class_names: tuple[str, ...] = field(init=False)
    warning: str = field(init=False, default="")
    prepared: Prepared = field(init=False)

    def __post_init__(self) -> None:
        require_trainable(self.recipe)
        images = self._readable(self.data.train)
        validation = self.recipe.validation
        held_out: tuple[str, ...] = ()
        if self.resumed is not None:
            names = self.data.class_names
            self.resumed = self.resumed.compared_with(images, names, validation)
            held_out = self.resumed.held_out(images, validation)
        self.split = split(images, self.data, validation, self.settings.seed, held_out)
        self.images, labels = dense_labels(self.split.train)
        self.class_names = tuple(self.data.class_names[label] for label in labels)
        if self.resumed is not None:
            self.images, self.class_names = self.resumed.in_order(self.images, self.class_names)
        self._check_classes()
        # Plans an epoch, so a sampling that does not fit the classes is refused before the
        # model is built.
        self._log_summary()

    def _readable(self, images: ImageList) -> ImageList:
        """Return the images that have a label and can be decoded; log the others."""
        if not len(images):
            raise ValueError("the data has no training images.")
        num_unlabelled = len(images) - len(images.labelled())
        if num_unlabelled:
            self.log(f"{num_unlabelled} training images have no label: left out")
            images = images.labelled()
        max_images = self.settings.max_images
        if 0 < max_images < len(images):
            images = images.take(np.arange(max_images))
        if self.decodes:
            images = check_images(images)
        for line in skipped_lines(images.skipped):
            self.log(line)
        if not len(images):
            raise ValueError("none of the training images could be read.")
        self.warning = mostly_skipped(images.skipped, images.paths.tolist())
        return images

    def _check_classes(self) -> None:
        num_classes = len(self.class_names)
        if num_classes < 2:
            raise ValueError(
                f"training needs at least 2 classes. Received {num_classes} (without the classes "
                "that are held back for validation)."
            )
        require_fitting(self.recipe.reduction, len(self.images), num_classes, len(self.split.query))
        comparing = [
            term.loss
            for term in self.recipe.losses
            # Negatives alone need no second image of a class.
            if term.loss.compares and not isinstance(term.loss, schema.HardestNegatives)
        ]
        if comparing and max(self.images_per_class) < 2:
            raise ValueError(
                f"none of the {num_classes} training classes has two images, and "
                f"{type(comparing[0]).__name__} learns from two images of one class. Check the "
                "labels of the data, or train with --train_logits alone."
            )

    def _log_summary(self) -> None:
        validation = "none"
        if len(self.split.query):
            validation = f"{len(self.split.query)} queries, {self.split.description}"
        self.log(f"run directory: {shown_path(self.run_dir)}")
        sizes = ", ".join(map(str, dict.fromkeys(self.recipe.sizes_px)))
        self.log(
            f"training {self.recipe.name} on {len(self.images)} images of "
            f"{len(self.class_names)} classes for {counted(self.recipe.epochs, 'epoch')} of "
            f"{counted(len(self.plan(0)), 'step')} at {sizes} px; validation: {validation}"
        )
        for line in find_duplicates(self.split.query, self.split.gallery).notes():
            self.log(line)
        for line in _notes_on_folds(self.recipe.validation, self.split):
            self.log(line)
        num_single = self.images_per_class.count(1)
        sampling = self.recipe.sampling
        if num_single and isinstance(sampling, schema.Pairs):
            classes = counted(num_single, "class", "classes")
            self.log(f"{classes} of one image: pairs show it twice")
        if isinstance(sampling, schema.PxK):
            num_small = sum(count < sampling.images for count in self.images_per_class)
            if num_small:
                classes = counted(num_small, "class", "classes")
                self.log(
                    f"{classes} of fewer than {sampling.images} images: a batch shows some of them "
                    "several times"
                )

    @property
    def images_per_class(self) -> list[int]:
        """Number of training images of each class, in the order of `class_names`."""
        return np.bincount(self.images.known_labels("training")).tolist()

    def plan(self, epoch: int) -> np.ndarray:
        """Return the image rows of the batches of an epoch.

        Args:
            epoch: number of the epoch, from 0.

        Returns:
            int [steps, batch size], rows of `images`.
        """
        return plan_epoch(self.recipe.sampling, self.images, self.settings.seed, epoch)

    def start(
        self,
        weights: str,
        from_run: str | Path | None,
        data_path: str,
        infer: Mapping[str, Any],
        flags: Mapping[str, Any],
    ) -> EmbeddingModel:
        """Build the model, load the weights it starts from, and write the run directory.

        Nothing is written if the weights do not fit.

        Args:
            weights: checkpoint of the trunk; "" = the one of the recipe.
            from_run: run directory whose weights are used instead; None = no run.
            data_path: path of the data, for the facts of the run.
            infer: flags that a later NSML submission uses, for the facts of the run.
            flags: flags of the training command, for the facts of the run.

        Returns:
            The model.

        Raises:
            ValueError: the weights do not fit the model.
        """
        trunk = self.recipe.model.trunk
        weights = "" if from_run is not None else weights or trunk.weights
        if from_run is not None:
            trunk = in_layout_of(from_run, trunk)
        trunk, weights = find_weights(trunk, weights, self.log if from_run is None else quiet)
        trunk = dataclasses.replace(trunk, weights=weights)
        model_config = dataclasses.replace(self.recipe.model, trunk=trunk)
        self.recipe = dataclasses.replace(self.recipe, model=model_config)
        model = self.build_model()
        history = [f"made with seed {self.settings.seed}"]
        if from_run is not None:
            history += copy_weights(
                read_run(from_run), model, self.recipe, self.class_names, self.log
            )
        elif weights:
            report = str(model.trunk.load(weights))
            self.log(report)
            write_text(self.run_dir / "load_report.txt", f"{report}\n")
        else:
            self.log("no --pretrained_model: the trunk starts from random weights")
        facts = Facts(
            data=data_path or self.data.name,
            data_layout=self.data.layout,
            data_digest=content_of(self.images),
            class_names=self.class_names,
            held_out=self.split.held_out,
            weights=weights,
            settings=dataclasses.asdict(self.settings),
            flags=run_directory.jsonable(flags),
            infer=run_directory.jsonable(infer),
            history=tuple(history),
            versions=run_directory.versions(),
            commit=run_directory.commit(),
        )
        photographs = self.photographs()
        if from_run is not None:
            photographs = photographs.after(read_photographs(Path(from_run)))
        self._log_trained_queries(photographs)
        self.prepare(model)
        # A process that was killed before it wrote the recipe may have left its first state.
        CheckpointFolder(self.run_dir / "checkpoint", "last").remove()
        # A run has a state from its first moment, so that it can always be resumed.
        self.prepared.state.save(0)
        write_photographs(self.run_dir, photographs)
        write_run(self.run_dir, "recipe", codec.to_json(self.recipe), facts)
        return model

    def photographs(self) -> Photographs:
        """Return the photographs that are trained on, and those that are held back."""
        return Photographs(
            trained=digests_of(self.images, self.class_names),
            held_out=digests_of(self.split.held_back, self.data.class_names),
        )

    def _log_trained_queries(self, photographs: Photographs) -> None:
        """Log how many queries are photographs that the weights are, or were, trained on."""
        class_of = photographs.class_of_trained
        sides = {"validation queries": self.split.query, "queries of the data": self.data.query}
        for side, query in sides.items():
            num_known = sum(content in class_of for content in contents_of(query.paths.tolist()))
            if num_known:
                self.log(
                    f"{num_known} of {len(query)} {side} are photographs that the model is trained "
                    "on: they measure too well, and `evaluate` refuses them"
                )

    def prepare(self, model: EmbeddingModel) -> None:
        """Build the optimizers and the state on disk; nothing is read or written."""
        from delf_ext.training.loop import prepare

        steps_per_epoch = len(self.plan(0))
        self.prepared = prepare(
            self.recipe, model, steps_per_epoch, self.run_dir, self.log, self.class_names
        )

    def build_model(self) -> EmbeddingModel:
        """Build the model with new weights."""
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

    def fit(self, model: EmbeddingModel, listener: Listener | None) -> Mapping[str, float]:
        """Train the model.

        Args:
            model: from `start` or `reopen`.
            listener: called after each epoch and each evaluation; None = no listener.

        Returns:
            Means of the losses in the last epoch.
        """
        from delf_ext.training.loop import RunSettings, train

        settings = RunSettings(
            run_dir=self.run_dir,
            log=self.log,
            evaluate=self._evaluation(model),
            listener=listener,
            prepared=self.prepared,
            checkpoint_every_steps=self.settings.checkpoint_every_steps,
            seed=self.settings.seed,
            images_per_class=self.images_per_class,
        )
        return train(self.recipe, model, self._batches(model), len(self.plan(0)), settings)

    def _batches(self, model: EmbeddingModel) -> Batches:
        if self.recipe.model.trunk.is_frozen:
            if self.recipe.input.augment:
                self.log("the trunk is frozen and sees each image once: no augmentation")
            folder = self.run_dir / "features"
            return batches_of_feature_maps(self.recipe, self.images, self.plan, model, folder)
        batches = batches_of_images(self.recipe, self.images, self.plan, self.settings, self.log)
        if self.recipe.input.augment:
            draw_first_batch(batches, self.run_dir / AUGMENTED, self.log)
        return batches

    def _evaluation(self, model: EmbeddingModel) -> Evaluate | None:
        """Return a function that measures the model on the validation lists; None without them."""
        if not len(self.split.query):
            return None
        from delf_ext.app.evaluators import build_evaluator
        from delf_ext.features.network_embedders import live_embedder

        embedder = live_embedder(
            model,
            self.recipe.final_size_px,
            "validation",
            logits_of(self.recipe, self.class_names),
        )
        evaluator = build_evaluator(
            self.recipe.task,
            self.split.query,
            self.split.gallery,
            self.recipe.batch_size,
            self.data.class_names,
        )
        return lambda: dict(evaluator(embedder))


def _notes_on_folds(validation: schema.Validation | None, parts: Split) -> Iterator[str]:
    """Yield a line for each kind of class that is not in the queries of every fold."""
    if not isinstance(validation, schema.StratifiedFolds):
        return
    lists = (parts.train, parts.held_back)
    labels = np.concatenate([images.known_labels("folds") for images in lists])
    counts = np.unique(labels, return_counts=True)[1]
    num_single = int(np.sum(counts == 1))
    num_few = int(np.sum((counts > 1) & (counts < validation.folds)))
    if num_single:
        classes = counted(num_single, "class", "classes")
        yield f"{classes} of one image: it is trained on in every fold"
    if num_few:
        classes = counted(num_few, "class", "classes")
        yield (
            f"{classes} of fewer images than there are folds ({validation.folds}): not among the "
            "queries of every fold"
        )
