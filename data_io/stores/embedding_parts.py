"""Store the embeddings of a list of images in parts, so that a killed extraction can be resumed.

The folder contains `parts.json`, which names the model, and one folder per list of images. The name
of that folder is a digest of the ids. It contains one .npz file per part; a part is a fixed range
of the list. Folders of earlier lists are kept until the current list is complete: the embedding of
an image that was renamed or moved is found there by the content of its file.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import (
    StaleArtifact,
    digest_of,
    one_line,
    read_json,
    read_npz,
    write_json,
    write_npz,
)
from data_io.files.locks import in_turn, only_writer
from data_io.images import DECODING_VERSION
from data_io.records import has_unit_length

MODEL_FILE = "parts.json"
LOCK_FILE = ".lock"


def made_by(digest: str) -> str:
    """Return the text that names a model and the version of image decoding in a stored file."""
    return f"{digest}, decoding {DECODING_VERSION}"


def stored_model(folder: Path) -> Any:
    """Return what `parts.json` in a folder names as the model; None if the file names none."""
    stored = read_json(folder / MODEL_FILE)
    return stored.get("digest") if isinstance(stored, dict) else stored


@dataclass(frozen=True, eq=False)
class FeaturePart:
    """Embeddings of a range of a list of images.

    Attributes:
        contents: str [n], the digest of each image's file; "" if the file cannot be read.
        reasons: str [n], why an image has no embedding; "" if it has one.
        embeddings: float32 [m, D], unit length, of the images that have one, in order.
    """

    contents: np.ndarray
    reasons: np.ndarray
    embeddings: np.ndarray

    def __post_init__(self) -> None:
        shapes = (self.contents.shape, self.reasons.shape, self.embeddings.shape)
        if len(shapes[0]) != 1 or shapes[1] != shapes[0] or len(shapes[2]) != 2:
            raise ValueError(
                f"contents and reasons must be [n], embeddings [m, D]. Received {shapes}."
            )
        num_embedded = int((self.reasons == "").sum())
        if len(self.embeddings) != num_embedded or self.embeddings.dtype != np.float32:
            raise ValueError(f"expected {num_embedded} float32 embeddings. Received {shapes[2]}.")
        if not has_unit_length(self.embeddings).all():
            raise ValueError("embeddings must be of unit length.")

    @classmethod
    def of(cls, contents: np.ndarray, results: Sequence[np.ndarray | str]) -> FeaturePart:
        """Build a part from the result for each image.

        Args:
            contents: str [n], the digest of each image's file.
            results: for each image its embedding, float32 [D], or the reason why it has none.

        Returns:
            The part of these n images.
        """
        embeddings = [result for result in results if not isinstance(result, str)]
        reasons = [result if isinstance(result, str) else "" for result in results]
        shape = (len(embeddings), -1 if embeddings else 0)
        return cls(
            contents, np.array(reasons, str), np.array(embeddings, np.float32).reshape(shape)
        )

    def per_image(self) -> list[np.ndarray | None]:
        """Return for each image its embedding, float32 [D], or None if it has none.

        Returns:
            One entry per image, in order.
        """
        embeddings = iter(self.embeddings)
        return [None if reason else next(embeddings) for reason in self.reasons]


class FeatureParts:
    """The parts of one list of images.

    Part k has the rows k * part_images up to the first row of the next part.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str,
        ids: np.ndarray,
        part_images: int,
        overwrite: bool = False,
    ) -> None:
        """Open or create a folder of parts.

        Args:
            folder: where the parts are stored.
            model: `made_by` of the model that makes the embeddings.
            ids: str [N], of the images.
            part_images: number of images in a part.
            overwrite: delete parts of another model. Parts of the same model are kept: they are
                checked by content, and another shard may just have written them.

        Raises:
            StaleArtifact: the folder has parts of another model.
            ValueError: `parts.json` is damaged.
        """
        self.folder = Path(folder)
        self.model = model
        self.num_images = len(ids)
        self.part_images = part_images
        self.num_parts = math.ceil(len(ids) / part_images)
        self._own_folder = self.folder / digest_of([part_images, *map(str, ids)])
        self.folder.mkdir(parents=True, exist_ok=True)
        # Of shards that start together, the first one deletes stale parts and the others wait.
        with in_turn(self.folder / LOCK_FILE):
            self._claim(overwrite)

    def _claim(self, overwrite: bool) -> None:
        path = self.folder / MODEL_FILE
        if path.exists() and stored_model(self.folder) != self.model:
            if not overwrite:
                raise StaleArtifact(
                    f"{self.folder} was made by model {stored_model(self.folder)}; "
                    f"now {self.model}. Pass --overwrite (overwrite=True)."
                )
            for folder in self._list_folders():
                shutil.rmtree(folder)
        write_json(path, {"digest": self.model})

    def locked(self, index: int, count: int) -> AbstractContextManager[None]:
        """Lock one shard while the context is open.

        Args:
            index: of the shard, from 1.
            count: number of shards.

        Returns:
            A context manager. It raises ValueError if another process extracts this shard.
        """
        lock_file = self.folder / f"{LOCK_FILE}-{index}-of-{count}"
        return only_writer(lock_file, f"extracting shard {index}/{count}")

    def rows(self, part: int) -> range:
        """Return the rows of the list that a part has."""
        return range(part * self.part_images, min((part + 1) * self.part_images, self.num_images))

    def path(self, part: int) -> Path:
        """Return the file of a part."""
        return self._own_folder / f"{part:06}.npz"

    def earlier(self) -> list[Path]:
        """Return the files of parts of other lists, sorted."""
        others = [folder for folder in self._list_folders() if folder != self._own_folder]
        return sorted(path for folder in others for path in folder.glob("*.npz"))

    def read(self, path: Path) -> FeaturePart | None:
        """Read a part.

        Args:
            path: a file from `path` or `earlier`.

        Returns:
            The part; None if there is no such file.

        Raises:
            ValueError: the file is damaged, or another model made it.
        """
        try:
            columns = read_npz(path)
            if str(columns.pop("digest")) != self.model:
                raise ValueError("another model made it")
            return FeaturePart(**columns)
        except FileNotFoundError:
            return None
        # A damaged archive raises many types, from KeyError to NotImplementedError.
        except Exception as error:
            raise ValueError(f"{path}: not a valid part ({one_line(error)})") from error

    def save(self, part: int, content: FeaturePart) -> None:
        """Write a part, and delete what a killed run left of it."""
        path = self.path(part)
        for abandoned in self._own_folder.glob(f".{path.name}.*"):
            abandoned.unlink(missing_ok=True)
        write_npz(path, digest=self.model, **vars(content))

    def drop_earlier(self) -> None:
        """Delete the parts of other lists; call this when the own list is complete."""
        for folder in self._list_folders():
            if folder != self._own_folder:
                # Two shards that end together both try to delete it.
                shutil.rmtree(folder, ignore_errors=True)

    def _list_folders(self) -> list[Path]:
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_dir() and re.fullmatch(r"[0-9a-f]{12}", path.name)
        )
