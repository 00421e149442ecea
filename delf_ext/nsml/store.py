"""Where the stand-in keeps everything: plain files below one folder, each written whole or not at all.

sessions/USER/DATASET/N/      one session, named USER/DATASET/N
    session.json              what was asked for (Session); never changes
    state.json                what became of it (State)
    code/                     the snapshot that runs; the process' working directory
    log                       what it printed
    report.jsonl, events.*    what it reported, as lines and for TensorBoard
    checkpoints/NAME/model/   what its `save` wrote; checkpoint.json beside it
    submissions/K/            log, answer.json, result.json
datasets/NAME/                what sessions see as DATASET_PATH
answers/NAME.csv              the labels of its test images: outside every DATASET_PATH
cache/                        what `cache` keeps
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from data_io.artifacts import read_json, write_json
from delf_ext.config import strict

NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
)  # of users, data sets and checkpoints: safe as a file's name anywhere
ENDED = ("exited", "failed", "stopped", "killed")

Kind = TypeVar("Kind")
# Types of a record's fields that JSON stores as other types.
JSON_TYPES: dict[Any, Any] = {float: (int, float), tuple[str, ...]: list, dict[str, float]: dict}


@dataclass(frozen=True)
class Session:
    """What was asked for. args: the entry's own; parent, checkpoint: what a fork or a resumed session begins with, else ""."""

    name: str
    dataset: str
    entry: str
    args: tuple[str, ...]
    gpus: int = 0
    memo: str = ""
    parent: str = ""
    checkpoint: str = ""
    created: float = 0.0  # Unix seconds


@dataclass(frozen=True)
class State:
    """What became of it. pid: of the process that watches over the session and leads its process group; 0 before it starts."""

    status: str = "starting"
    pid: int = 0
    started: float = 0.0  # Unix seconds; so is `ended`
    ended: float = 0.0
    exit_code: int = 0
    reason: str = ""  # why it failed, in one line


def home() -> Path:
    """MANDOO_HOME, else ~/.mandoo. Raises: ValueError when there is neither."""
    try:
        return Path(os.environ.get("MANDOO_HOME") or Path.home() / ".mandoo").absolute()
    except RuntimeError:  # a container's user without a home
        raise ValueError(
            "no home folder is known: set MANDOO_HOME to the folder in which everything shall lie."
        ) from None


def user() -> str:
    """MANDOO_USER, else the login name, as a name that may stand in a session's."""
    try:
        name = os.environ.get("MANDOO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = "you"
    return checked(re.sub(r"[^A-Za-z0-9_.-]", "_", name), "user")


def checked(name: str, what: str) -> str:
    """The name itself. Raises: ValueError when it cannot be a file's name."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: letters, digits, '_', '-' and '.' only, and no '.' or '-' in front."
        )
    return name


def dataset_folder(name: str) -> Path:
    return home() / "datasets" / checked(name, "data set")


def answers_file(name: str) -> Path:
    return home() / "answers" / f"{checked(name, 'data set')}.csv"


def session_folder(name: str) -> Path:
    """Raises: ValueError when the name is not USER/DATASET/N."""
    parts = name.strip("/").split("/")
    if (
        len(parts) != 3
        or not parts[2].isdecimal()
        or not all(NAME.fullmatch(part) for part in parts)
    ):
        raise ValueError(
            f"{name!r} is no session: they are named USER/DATASET/N, see `nsml ps -a`."
        )
    return home() / "sessions" / Path(*parts)


def existing_session(name: str) -> Path:
    """Return the folder of a session. Raises: ValueError if there is none."""
    folder = session_folder(name)
    if not folder.is_dir():
        raise ValueError(f"no session {name}: `nsml ps -a` lists all.")
    return folder


def checkpoint_folder(session: str, checkpoint: str) -> Path:
    return session_folder(session) / "checkpoints" / checked(checkpoint, "checkpoint")


def create(dataset: str, entry: str, args: tuple[str, ...], **others: Any) -> Session:
    """A new session with the next number of its data set."""
    folder = next_folder(home() / "sessions" / user() / checked(dataset, "data set"))
    session = Session(
        f"{user()}/{dataset}/{folder.name}", dataset, entry, args, created=time.time(), **others
    )
    try:
        write_json(folder / "session.json", asdict(session))
        write_state(session.name, State())
    except OSError:  # a full disk
        shutil.rmtree(folder)
        raise
    return session


def next_folder(above: Path) -> Path:
    """above/N, made for the next N. Two processes that ask at once get two."""
    above.mkdir(parents=True, exist_ok=True)
    number = 1 + max(
        (int(folder.name) for folder in above.iterdir() if folder.name.isdecimal()), default=0
    )
    while True:
        with contextlib.suppress(FileExistsError):
            (above / str(number)).mkdir()
            return above / str(number)
        number += 1


def read_session(name: str) -> Session:
    """Raises: ValueError when there is no such session, or its record is damaged."""
    session = _read(Session, existing_session(name) / "session.json")
    return replace(session, args=tuple(map(str, session.args)))


def write_state(name: str, state: State) -> None:
    write_json(session_folder(name) / "state.json", asdict(state))


def read_state(name: str) -> State:
    """As it is now: one whose supervisor has vanished (a machine that was switched off, kill -9) was killed.

    Raises: ValueError when the file is missing or damaged.
    """
    state = _read(State, session_folder(name) / "state.json")
    if state.status not in ENDED and not is_running(name):
        return replace(state, status="killed", reason="its process has vanished")
    return state


def is_running(name: str) -> bool:
    """Whether a supervisor watches over the session, or is just about to: it holds a lock on the log for as long as it lives.

    A process's number would not tell: it may be another's by now.
    """
    with open(session_folder(name) / "log", "ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        return typed(kind, read_json(path))
    except (TypeError, ValueError) as error:
        name, reason = (
            "/".join(path.parts[-4:-1]),
            str(error).removeprefix(f"{path}: ").partition(";")[0].rstrip("."),
        )
        raise ValueError(
            f"{path}: damaged ({reason}); `nsml rm {name}` deletes the session."
        ) from None


def typed(kind: type[Kind], values: Any) -> Kind:
    """A record of the store from plain data. Raises: TypeError or ValueError naming what is missing, unknown or wrong."""
    record = strict(kind, values)
    types = get_type_hints(kind)
    for name, value in values.items():
        if not isinstance(value, JSON_TYPES.get(types[name], types[name])):
            raise ValueError(f"{name} is {value!r}")
    return record


def session_names(dataset: str | None = None) -> Iterator[str]:
    """All sessions of all users, or those of one data set, in order of their names' parts; numbers count as numbers."""
    found = (path.parent for path in (home() / "sessions").glob("*/*/*/session.json"))
    parts = [folder.parts[-3:] for folder in found]
    for owner, of, number in sorted(
        (part for part in parts if part[2].isdecimal()), key=lambda part: (*part[:2], int(part[2]))
    ):
        if dataset in (None, of):
            yield f"{owner}/{of}/{number}"


def checkpoint_names(session: str) -> list[str]:
    """Whole ones, oldest first."""
    folder = session_folder(session) / "checkpoints"
    notes = sorted(folder.glob("*/checkpoint.json"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in notes if NAME.fullmatch(path.parent.name)]


def find_checkpoint(session: str, checkpoint: str = "") -> str:
    """Return the checkpoint's name; the newest if none is given. Raises: ValueError that lists the known ones."""
    existing_session(session)
    names = checkpoint_names(session)
    if not names:
        raise ValueError(f"{session} has saved no checkpoint.")
    if checkpoint and checkpoint not in names:
        raise ValueError(f"{session} has no checkpoint {checkpoint!r}. It has: {', '.join(names)}.")
    return checkpoint or names[-1]
