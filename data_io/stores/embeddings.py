"""Store embeddings on disk and find them by the content of the image file.

A store has the embeddings of one model. It is a folder of .npz files, each with `digest`,
`contents [n]` and `embeddings [n, D]`. The parts that `extract` writes have these columns too, so a
store can also read those. Each `add` writes a new file, so several processes can share a folder.
Embeddings of transformed copies of the images, such as mirror images, have stores of their own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_io.files.artifacts import StaleArtifact, one_line, read_npz, write_npz
from data_io.images import DECODING_VERSION
from data_io.progress import Log
from data_io.stores.embedding_parts import MODEL_FILE, made_by, stored_model

# Folder in which `extract` writes parts.
PARTS_FOLDER = "features.parts"


def copy_digest(digest: str, name: str) -> str:
    """Return the digest that embeddings of transformed copies are stored under."""
    return f"{digest}-{name}"


def copy_parts(folder: Path, name: str) -> Path:
    """Return the folder in which `extract` writes parts of transformed copies."""
    return folder / f"{PARTS_FOLDER}-{name}"


class EmbeddingStore:
    """The embeddings of one model."""

    def __init__(
        self,
        folder: Path,
        digest: str,
        log: Log,
        extra_folder: Path | None = None,
        writes: bool = True,
    ) -> None:
        """Open a store and read what it has.

        Args:
            folder: new embeddings are written to a subfolder that is named by the digest.
            digest: of the model; embeddings of another model or decoding are never read.
            log: called with one line about each damaged file.
            extra_folder: a folder that the user gave, which is only read: a result of `extract` or
                another store.
            writes: write added embeddings to disk; otherwise only this object has them.

        Raises:
            StaleArtifact: `extra_folder` has embeddings of another model.
            ValueError: `extra_folder` has no embeddings.
        """
        self.made_by = made_by(digest)
        self.digest = digest
        self.folder = folder / f"{digest}-{DECODING_VERSION}"
        self._extra_folder = extra_folder
        self._of_copies: dict[str, EmbeddingStore] = {}
        self.log = log
        self.writes = writes
        self._blocks: list[np.ndarray] = []
        self._place_of: dict[str, tuple[int, int]] = {}
        files = list(self.folder.glob("*.npz")) if self.folder.is_dir() else []
        if extra_folder is not None:
            files += self._files_of(extra_folder)
        self._read_all(files)

    def of_copy(self, name: str) -> EmbeddingStore:
        """Return the store of a transformed copy of each image, beside this one.

        It also reads what `extract` wrote of these copies into the folder that the user gave.

        Args:
            name: of the transformation, such as "mirror".
        """
        if name not in self._of_copies:
            digest = copy_digest(self.digest, name)
            store = EmbeddingStore(self.folder.parent, digest, self.log, writes=self.writes)
            if self._extra_folder is not None:
                store._read_all(copy_parts(self._extra_folder, name).rglob("*.npz"))
            self._of_copies[name] = store
        return self._of_copies[name]

    def _files_of(self, folder: Path) -> list[Path]:
        command = f"`mandoo extract --out={folder}`"
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder of features; {command} makes one.")
        parts = folder / PARTS_FOLDER
        if (parts / MODEL_FILE).is_file():
            model = stored_model(parts)
            if model != self.made_by:
                raise self._stale(folder, model, self.made_by)
            return list(parts.rglob("*.npz"))
        own = folder / self.folder.name
        if own.is_dir():
            return list(own.glob("*.npz"))
        others = [
            path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.npz"))
        ]
        if others:
            raise self._stale(folder, ", ".join(sorted(others)), self.folder.name)
        raise ValueError(f"{folder}: no stored features in it; {command} makes them.")

    @staticmethod
    def _stale(folder: Path, other_model: object, model: str) -> StaleArtifact:
        return StaleArtifact(
            f"{folder} was made by model {other_model}; this model is {model}. Extract again."
        )

    def _read_all(self, files: Iterable[Path]) -> None:
        for path in sorted(files):
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            columns = read_npz(path)
            if str(columns["digest"]) != self.made_by:
                return
            contents = columns["contents"]
            embeddings = columns["embeddings"]
            if "reasons" in columns:
                contents = contents[columns["reasons"] == ""]
            if embeddings.ndim != 2 or len(contents) != len(embeddings):
                raise ValueError("contents and embeddings differ in number")
        # A damaged archive raises many types, from KeyError to NotImplementedError.
        except Exception as error:
            self.log(
                f"{path}: damaged file of embeddings ({one_line(error)}); "
                "its images are embedded again"
            )
            return
        self._remember(contents.tolist(), embeddings)

    def _remember(self, contents: Sequence[str], embeddings: np.ndarray) -> None:
        for row, content in enumerate(contents):
            self._place_of[content] = (len(self._blocks), row)
        self._blocks.append(embeddings)

    def __len__(self) -> int:
        return len(self._place_of)

    def get(self, content: str) -> np.ndarray | None:
        """Return the embedding of an image.

        Args:
            content: the digest of the image's file.

        Returns:
            float32 [D], or None if it is not stored.
        """
        if content not in self._place_of:
            return None
        block, row = self._place_of[content]
        return self._blocks[block][row]

    def add(self, contents: Sequence[str], embeddings: np.ndarray) -> None:
        """Store embeddings; if the disk refuses, log it and keep them in memory only.

        Args:
            contents: the digests of n image files.
            embeddings: float32 [n, D], unit length.
        """
        if not contents:
            return
        self._remember(contents, embeddings)
        if not self.writes:
            return
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        try:
            write_npz(path, digest=self.made_by, contents=contents, embeddings=embeddings)
        except OSError as error:
            self.log(f"{self.folder}: embeddings are not stored ({error.strerror or error})")
