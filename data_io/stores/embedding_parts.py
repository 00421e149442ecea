"""Embeddings on disk, part by part: what an extraction has done survives it, and is known again by the content of the files.

`parts.json` names the model. Beside it lies one folder per list of images, named by a digest of its ids, with one .npz file per
part; a part is a fixed stretch of the list. Folders of earlier lists are kept until the present one is complete: an image that
was renamed or moved is found there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_io.artifacts import StaleArtifact, atomic_path, digest_of, read_json, write_json
from data_io.records import UNIT_LENGTH_TOLERANCE

HEAD, LOCK = "parts.json", ".lock"
READ_BYTES = 1 << 20


def content_digest(path: str | Path) -> str:
    """32 hex digits of SHA-256 over a file's bytes; "" for what cannot be read. Threads run it side by side."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""  # opening a pipe would wait for ever
        with open(path, "rb", buffering=0) as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()[:32]


def contents_of(paths: Sequence[str], num_threads: int = 2) -> list[str]:
    """Return the digest of each file, in order; "" for what cannot be read. Shows a bar on a terminal."""
    with ThreadPoolExecutor(num_threads) as pool:
        digests = pool.map(content_digest, paths)
        return list(
            tqdm(
                digests,
                "reading",
                len(paths),
                unit="image",
                leave=False,
                disable=not sys.stderr.isatty(),
            )
        )


@dataclass(frozen=True, eq=False)
class FeaturePart:
    """contents [n] str: digest of each image's file, "" where unreadable. reasons [n] str: why an image has no embedding, ""
    where it has one. embeddings [m, D] float32 of unit length, of the images that have one, in order."""

    contents: np.ndarray
    reasons: np.ndarray
    embeddings: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.contents.shape, self.reasons.shape, self.embeddings.shape
        if self.contents.ndim != 1 or shapes[1] != shapes[0] or self.embeddings.ndim != 2:
            raise ValueError(
                f"contents and reasons must be [n], embeddings [m, D]. Received {shapes}."
            )
        if (self.reasons == "").sum() != len(
            self.embeddings
        ) or self.embeddings.dtype != np.float32:
            raise ValueError(
                f"{(self.reasons == '').sum()} float32 embeddings belong here. Received {shapes[2]}."
            )
        if not (
            np.abs(np.linalg.norm(self.embeddings, axis=1) - 1.0) <= UNIT_LENGTH_TOLERANCE
        ).all():
            raise ValueError("embeddings must be of unit length.")

    @classmethod
    def of(cls, contents: np.ndarray, found: Sequence[np.ndarray | str]) -> FeaturePart:
        """found: per image its embedding [D], or why there is none."""
        embeddings = [item for item in found if not isinstance(item, str)]
        reasons = np.array([item if isinstance(item, str) else "" for item in found], str)
        return cls(
            contents,
            reasons,
            np.array(embeddings, np.float32).reshape(len(embeddings), -1 if embeddings else 0),
        )

    def known(self) -> list[np.ndarray | None]:
        """Per image its embedding, or None."""
        embeddings = iter(self.embeddings)
        return [None if reason else next(embeddings) for reason in self.reasons]


class FeatureParts:
    """The parts of one list of images: part k holds its rows k * part_images up to the next part's.

    digest: of the model that makes the embeddings. overwrite: parts that another model made are dropped; those of the same model
    stay, since what a file's content vouches for is not made better by doing it again, and another shard may just have made it.
    Raises: StaleArtifact when another model made what is in the folder, ValueError when the folder is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        digest: str,
        ids: np.ndarray,
        part_images: int,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.digest = Path(folder), digest
        self.num_images, self.part_images = len(ids), part_images
        self.num_parts = math.ceil(len(ids) / part_images)
        self._own = self.folder / digest_of([part_images, *map(str, ids)])
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, "wb") as file:
            fcntl.flock(
                file, fcntl.LOCK_EX
            )  # shards that start together: one drops what is stale, the others find it done
            self._claim(overwrite)

    def _claim(self, overwrite: bool) -> None:
        head = self.folder / HEAD
        stored = read_json(head) if head.exists() else None
        made_by = stored.get("digest") if isinstance(stored, dict) else stored
        if stored is not None and made_by != self.digest:
            if not overwrite:
                raise StaleArtifact(
                    f"{self.folder} was made by model {made_by}; now {self.digest}. Pass --overwrite."
                )
            for folder in self._lists():
                shutil.rmtree(folder)
        write_json(head, {"digest": self.digest})

    @contextlib.contextmanager
    def locked(self, index: int, count: int) -> Iterator[None]:
        """Holds one shard, index of count. Raises: ValueError when another process holds it."""
        with open(self.folder / f"{LOCK}-{index}-of-{count}", "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.folder}: another run is extracting shard {index}/{count}; let it end first."
                ) from None
            yield

    def rows(self, part: int) -> range:
        return range(part * self.part_images, min((part + 1) * self.part_images, self.num_images))

    def path(self, part: int) -> Path:
        return self._own / f"{part:06}.npz"

    def earlier(self) -> list[Path]:
        """Files of parts of other lists, in order."""
        return sorted(
            path for folder in self._lists() if folder != self._own for path in folder.glob("*.npz")
        )

    def read(self, path: Path) -> FeaturePart | None:
        """None when there is no such part. Raises: ValueError naming one that is damaged, or another model's."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["digest"]) != self.digest:
                    raise ValueError("another model made it")
                return FeaturePart(stored["contents"], stored["reasons"], stored["embeddings"])
        except FileNotFoundError:
            return None
        except (
            Exception
        ) as error:  # a damaged archive raises anything from KeyError to NotImplementedError
            raise ValueError(
                f"{path}: not a whole part ({' '.join(str(error).split()) or type(error).__name__})"
            ) from error

    def save(self, part: int, content: FeaturePart) -> None:
        for abandoned in self._own.glob(
            f".{self.path(part).name}.*"
        ):  # of a run that was killed while it wrote this part
            abandoned.unlink(missing_ok=True)
        columns = {
            "contents": content.contents,
            "reasons": content.reasons,
            "embeddings": content.embeddings,
        }
        with atomic_path(self.path(part)) as temporary, open(temporary, "wb") as file:
            np.savez(file, digest=np.asarray(self.digest), **columns)

    def drop_earlier(self) -> None:
        """For when this list is complete."""
        for folder in self._lists():
            if folder != self._own:
                shutil.rmtree(folder, ignore_errors=True)  # two shards that end together both do it

    def _lists(self) -> list[Path]:
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_dir() and re.fullmatch(r"[0-9a-f]{12}", path.name)
        )
