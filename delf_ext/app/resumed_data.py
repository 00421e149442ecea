"""Match the data of a resumed run with the data that it was made with."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

from data_io.files.contents import contents_of
from data_io.photographs import Photographs, digests_of
from data_io.records import ImageList
from delf_ext.app.data import content_of
from delf_ext.recipes import schema
from delf_ext.runs.data_changes import DataChanges, changes_between
from delf_ext.runs.photographs import read_photographs
from delf_ext.runs.records import Run


@dataclass(frozen=True)
class Resumed:
    """A run that is continued, and what has changed in its data.

    Attributes:
        run: the run.
        accept_changes: whether changed data are accepted.
        before: photographs of the run; None if it does not list them.
        changes: differences between the data then and now.
    """

    run: Run
    accept_changes: bool = False
    before: Photographs | None = None
    changes: DataChanges = field(default_factory=DataChanges)

    def compared_with(
        self, images: ImageList, class_names: tuple[str, ...], validation: object
    ) -> Resumed:
        """Compare the data of the run with its data now.

        Args:
            images: the readable training images.
            class_names: name of each label.
            validation: rule of the recipe.

        Returns:
            This run with its changes.

        Raises:
            ValueError: the data have changed and this is not accepted, or all held-out classes are
                lost.
        """
        before = read_photographs(self.run.path)
        now = digests_of(images, class_names)
        if before is None:
            # A run of an earlier version: only its classes are known.
            known = {*self.run.facts.class_names}
            if isinstance(validation, schema.HeldOutClasses):
                known.update(self.run.facts.held_out)
            changes = DataChanges(
                lost=tuple(sorted(known - now.keys())),
                added={name: len(now[name]) for name in now if name not in known},
            )
        else:
            changes = changes_between(before, now)
        resumed = dataclasses.replace(self, before=before, changes=changes)
        if changes:
            resumed._require_accepted(str(changes))
        held_out = set(resumed.classes_now(self.run.facts.held_out))
        if isinstance(validation, schema.HeldOutClasses) and not held_out & now.keys():
            raise ValueError(
                f"{self.run.path}: none of the classes that the run held out for validation is "
                f"left ({changes}). Start a new run: --from_run={self.run.path}"
            )
        return resumed

    def _require_accepted(self, changes: str) -> None:
        if self.accept_changes:
            return
        raise ValueError(
            f"{self.run.path}: the data have changed since the run was made: {changes}. Put them "
            "back (--data=PATH if they were moved), or pass --accept_changed_data to continue with "
            "them: weights follow their class, a new class gets new weights, and those of a lost "
            f"class are dropped. --from_run={self.run.path} starts a new run."
        )

    def classes_now(self, stored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the present names of classes; () means the classes of the run."""
        return tuple(map(self.changes.new_name, stored or self.run.facts.class_names))

    def held_out(self, images: ImageList, validation: object) -> tuple[str, ...]:
        """Return the classes, or the ids of the images, that the run held out.

        Args:
            images: the readable training images.
            validation: rule of the recipe.

        Returns:
            The names that they have now.
        """
        stored = self.run.facts.held_out
        if isinstance(validation, schema.HeldOutClasses):
            return self.classes_now(stored) if stored else ()
        if self.before is None or not isinstance(validation, schema.StratifiedFolds):
            return stored
        # Files may have other names now: images are found by their content.
        left = Counter(digest for digests in self.before.held_out.values() for digest in digests)
        held_out = []
        contents = contents_of(images.paths.tolist())
        for image_id, content in zip(images.ids.tolist(), contents, strict=True):
            if left[content]:
                left[content] -= 1
                held_out.append(image_id)
        return tuple(held_out)

    def in_order(
        self, images: ImageList, class_names: tuple[str, ...]
    ) -> tuple[ImageList, tuple[str, ...]]:
        """Give the classes of the run their old rows, and the images their old order.

        Args:
            images: the images to train on; labels run from 0 without a gap.
            class_names: name of each label.

        Returns:
            The images and the names; new classes come last. The images are in the old order if
            they are the same images.

        Raises:
            ValueError: the photographs have changed, and this is not accepted.
        """
        places = {name: place for place, name in enumerate(self.classes_now(()))}
        order = sorted(range(len(class_names)), key=lambda row: places.get(class_names[row], 1e9))
        labels = np.argsort(order)[images.known_labels("training")]
        images = dataclasses.replace(images, labels=labels)
        names = tuple(class_names[row] for row in order)
        digest = self.run.facts.data_digest
        if self.changes or content_of(images) == digest:
            return images, names
        if self.before is None:
            self._require_accepted("photographs were replaced, added or lost")
            return images, names
        # Files were renamed, which changes their order in their class.
        trained = Photographs(trained=digests_of(images, names))
        if trained.digest != Photographs(trained=self.before.trained).digest:
            return images, names
        sorted_images = images.take(_stored_order(images, names, self.before))
        return (sorted_images if content_of(sorted_images) == digest else images), names


def _stored_order(images: ImageList, names: tuple[str, ...], before: Photographs) -> np.ndarray:
    """Return the rows of images, class by class, each in the order that the run lists."""
    rows: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    labels = images.known_labels("training").tolist()
    for row, content in enumerate(contents_of(images.paths.tolist())):
        rows[names[labels[row]], content].append(row)
    return np.array(
        [rows[name, digest].popleft() for name in names for digest in before.trained[name]],
        dtype=np.int64,
    )
