"""Embeddings on disk, found by the content of the photograph: the same file has one embedding, whatever its name.

A store holds the embeddings of one model. It is a folder of .npz files, each with `digest`, `contents [n]` and
`embeddings [n, D]`; the parts that `extract` writes have these columns too, so a store also reads those. Every save
adds a file of its own, so several processes may share a folder.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.artifacts import StaleArtifact, atomic_path, read_json
from data_io.images import DECODING_VERSION
from data_io.progress import Log

PARTS, PARTS_NOTE = "features.parts", "parts.json"  # what `extract` writes


class EmbeddingStore:
    """The embeddings of one model.

    Args:
        folder: where new embeddings are written, in a folder named by the digest.
        digest: of the model; embeddings of another model or another way of decoding are never read.
        log: called with one line for a file that is damaged.
        named: a folder that the user named, with results of `extract` or another store; only read.
        keeps: write what is added; else it is known to this object only.

    Raises:
        StaleArtifact: with both digests, when `named` holds embeddings of another model.
        ValueError: when `named` holds no embeddings at all.
    """

    def __init__(
        self, folder: Path, digest: str, log: Log, named: Path | None = None, keeps: bool = True
    ) -> None:
        self.made_by = f"{digest}, decoding {DECODING_VERSION}"
        self.folder = folder / f"{digest}-{DECODING_VERSION}"
        self.log, self.keeps = log, keeps
        self._files: list[np.ndarray] = []
        self._place: dict[str, tuple[int, int]] = {}
        files = list(self.folder.glob("*.npz")) if self.folder.is_dir() else []
        if named is not None:
            files += self._files_of(named)
        for path in sorted(files):
            self._read(path)

    def _files_of(self, named: Path) -> list[Path]:
        if not named.is_dir():
            raise ValueError(
                f"{named}: no such folder of features; `mandoo extract --out={named}` makes one."
            )
        parts = named / PARTS
        if (parts / PARTS_NOTE).is_file():
            stored = read_json(parts / PARTS_NOTE)
            made_by = stored.get("digest") if isinstance(stored, dict) else stored
            if made_by != self.made_by:
                raise StaleArtifact(
                    f"{named} was made by model {made_by}; this model is {self.made_by}. Extract again."
                )
            return list(parts.rglob("*.npz"))
        own = named / self.folder.name
        if own.is_dir():
            return list(own.glob("*.npz"))
        others = sorted(
            path.name for path in named.iterdir() if path.is_dir() and any(path.glob("*.npz"))
        )
        if others:
            found = ", ".join(others)
            raise StaleArtifact(
                f"{named} was made by model {found}; this model is {self.folder.name}. Extract again."
            )
        raise ValueError(
            f"{named}: no stored features in it; `mandoo extract --out={named}` makes them."
        )

    def _read(self, path: Path) -> None:
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["digest"]) != self.made_by:
                    return
                contents, embeddings = stored["contents"], stored["embeddings"]
                if "reasons" in stored.files:
                    contents = contents[stored["reasons"] == ""]
                if embeddings.ndim != 2 or len(contents) != len(embeddings):
                    raise ValueError("contents and embeddings differ in number")
        except (
            Exception
        ) as error:  # a damaged archive raises anything from KeyError to NotImplementedError
            reason = " ".join(str(error).split()) or type(error).__name__
            self.log(
                f"{path}: not a whole file of embeddings ({reason}); its photographs are embedded again"
            )
            return
        self._keep(contents.tolist(), embeddings)

    def _keep(self, contents: Sequence[str], embeddings: np.ndarray) -> None:
        self._files.append(embeddings)
        for row, content in enumerate(contents):
            self._place[content] = (len(self._files) - 1, row)

    def __len__(self) -> int:
        return len(self._place)

    def get(self, content: str) -> np.ndarray | None:
        """Return the embedding [D] of a photograph by the digest of its file; None when it is not stored."""
        place = self._place.get(content)
        return None if place is None else self._files[place[0]][place[1]]

    def add(self, contents: Sequence[str], embeddings: np.ndarray) -> None:
        """Write embeddings [n, D] to a new file. A disk that refuses costs the storing, not the work."""
        if not contents:
            return
        self._keep(contents, embeddings)
        if not self.keeps:
            return
        try:
            path = self.folder / f"{uuid.uuid4().hex}.npz"
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                digest = np.asarray(self.made_by)
                np.savez(file, digest=digest, contents=np.asarray(contents), embeddings=embeddings)
        except OSError as error:
            self.log(f"{self.folder}: embeddings are not stored ({error.strerror or error})")
