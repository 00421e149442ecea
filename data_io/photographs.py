"""Define the list of photographs that a model was trained on, known by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from data_io.files.artifacts import digest_of
from data_io.files.contents import contents_of
from data_io.records import ImageList

Digests = Mapping[str, tuple[str, ...]]
"""Class name -> content digest of each of its photographs, in the order of the data."""


@dataclass(frozen=True)
class Photographs:
    """The photographs of a run's data when the run was made; those it did not use are not listed.

    Attributes:
        trained: class name -> digests of the photographs that it is trained on.
        held_out: class name -> digests of the photographs that it held back for validation.
        before: as `trained`, of the runs whose weights this one started from, and of this run's
            own data before they were changed.
    """

    trained: Digests = field(default_factory=dict)
    held_out: Digests = field(default_factory=dict)
    before: Digests = field(default_factory=dict)

    def __hash__(self) -> int:
        """Return the hash of the digest."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """Digest of the data: classes and contents; file names and their order do not count."""
        return digest_of(
            [
                sorted((name, sorted(digests)) for name, digests in side.items())
                for side in (self.trained, self.held_out)
            ]
        )

    @cached_property
    def class_of_trained(self) -> dict[str, str]:
        """Digest -> class of each photograph that the weights were ever trained on."""
        return {**_class_of(self.before), **_class_of(self.trained)}

    @cached_property
    def class_of_held_out(self) -> dict[str, str]:
        """Digest -> class of each photograph that was held back."""
        return _class_of(self.held_out)

    def after(self, earlier: Photographs | None) -> Photographs:
        """Return the photographs of a training that starts from the weights of an earlier one.

        Args:
            earlier: photographs of the earlier training; None = they are not known.

        Returns:
            The same photographs; `before` has those that only the earlier one was trained on.
        """
        if earlier is None:
            return self
        now = _class_of(self.trained)
        before: dict[str, tuple[str, ...]] = {}
        for side in (self.before, earlier.before, earlier.trained):
            for name, digests in side.items():
                known = before.get(name, ())
                new = dict.fromkeys(digests).keys() - now.keys() - set(known)
                if new:
                    before[name] = (*known, *sorted(new))
        return replace(self, before=before)


def _class_of(side: Digests) -> dict[str, str]:
    return {digest: name for name, digests in side.items() for digest in digests if digest}


def digests_of(images: ImageList, class_names: Sequence[str]) -> Digests:
    """Return the photographs of a list by class.

    Args:
        images: labelled images.
        class_names: name of each label.

    Returns:
        Class name -> content digests, in the order of the list.
    """
    if not len(images):
        return {}
    digests: dict[str, list[str]] = {}
    labels = images.known_labels("a list of photographs").tolist()
    for label, content in zip(labels, contents_of(images.paths.tolist()), strict=True):
        digests.setdefault(class_names[label], []).append(content)
    return {name: tuple(contents) for name, contents in digests.items()}
