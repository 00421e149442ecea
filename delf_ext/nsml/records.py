"""Create, write and read the records of a session: how it was started, and its status."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from data_io.files.artifacts import read_json, write_json
from data_io.files.locks import is_locked
from delf_ext.config import strict
from delf_ext.nsml.store import checked, existing_session, home, next_folder, session_folder, user

# The runner holds the first lock until the supervisor has written its first state. The supervisor
# holds the second one as long as it lives.
STARTING_LOCK = ".starting"
RUNNING_LOCK = ".running"
ENDED = ("exited", "failed", "stopped", "killed")
# Types of a record's fields that JSON stores as other types.
JSON_TYPES: dict[Any, Any] = {float: (int, float), tuple[str, ...]: list, dict[str, float]: dict}

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Session:
    """How a session was started.

    Attributes:
        name: USER/DATASET/N.
        dataset: name of its data set.
        entry: file or package that runs, relative to its code folder.
        args: arguments of the entry.
        gpus: number of GPUs that the process can use.
        memo: description for `nsml ps`.
        parent: session that it was forked from, or "".
        checkpoint: checkpoint of the parent that it starts from, or "".
        created: Unix seconds.
    """

    name: str
    dataset: str
    entry: str
    args: tuple[str, ...]
    gpus: int = 0
    memo: str = ""
    parent: str = ""
    checkpoint: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class State:
    """Status of a session.

    Attributes:
        status: "starting", "running" or one of `ENDED`.
        pid: process id of the supervisor; 0 before it starts.
        started: Unix seconds; 0 before it starts.
        ended: Unix seconds; 0 before it ends.
        exit_code: exit code of the process.
        reason: why the session failed, in one line.
    """

    status: str = "starting"
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0
    exit_code: int = 0
    reason: str = ""


def create(template: Session) -> Session:
    """Create a session with the next free number of its data set.

    Args:
        template: how to start the session. Its name and time are not used.

    Returns:
        The new session, with status "starting".

    Raises:
        OSError: The disk is full. No part of the session is then left.
    """
    folder = next_folder(home() / "sessions" / user() / checked(template.dataset, "data set"))
    name = f"{user()}/{template.dataset}/{folder.name}"
    session = replace(template, name=name, created=time.time())
    try:
        write_json(folder / "session.json", asdict(session))
        write_state(name, State())
    except OSError:
        # The disk is full.
        shutil.rmtree(folder)
        raise
    return session


def read_session(name: str) -> Session:
    """Read how a session was started.

    Args:
        name: name of the session.

    Returns:
        The record.

    Raises:
        ValueError: There is no such session, or its record is damaged.
    """
    session = _read(Session, existing_session(name) / "session.json")
    return replace(session, args=tuple(map(str, session.args)))


def write_state(name: str, state: State) -> None:
    """Write the state of a session."""
    write_json(session_folder(name) / "state.json", asdict(state))


def read_state(name: str) -> State:
    """Read the state of a session.

    The status is "killed" if the supervisor has not recorded an end but does not run any more, for
    example after `kill -9` or if the machine was switched off.

    Args:
        name: name of the session.

    Returns:
        The state now.

    Raises:
        ValueError: There is no such session, or its record is damaged.
    """
    state = _read(State, existing_session(name) / "state.json")
    if state.status not in ENDED and not is_running(name):
        return replace(state, status="killed", reason="its process does not run any more")
    return state


def is_running(name: str) -> bool:
    """Return whether the supervisor of a session runs or is just about to start.

    The supervisor holds a lock as long as it lives. Its process id is not enough: the system may
    have given it to another process.

    Args:
        name: name of the session.

    Returns:
        True if one of the session's locks is held.
    """
    folder = session_folder(name)
    return is_locked(folder / STARTING_LOCK) or is_locked(folder / RUNNING_LOCK)


def typed(kind: type[Kind], values: Any) -> Kind:
    """Convert plain JSON data to a record of the store.

    Args:
        kind: dataclass of the record.
        values: JSON data.

    Returns:
        The record.

    Raises:
        TypeError: A field is missing.
        ValueError: A field is unknown or has a value of a wrong type.
    """
    record = strict(kind, values)
    types = get_type_hints(kind)
    for name, value in values.items():
        if not isinstance(value, JSON_TYPES.get(types[name], types[name])):
            raise ValueError(f"{name} is {value!r}")
    return record


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        return typed(kind, read_json(path))
    except (TypeError, ValueError) as error:
        session = "/".join(path.parts[-4:-1])
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0].rstrip(".")
        raise ValueError(
            f"{path}: damaged ({reason}); `nsml rm {session}` deletes the session."
        ) from None
