"""Keep sessions, data sets and answers as plain files in one folder.

A file appears under its name only when it is complete.

sessions/USER/DATASET/N/      one session, named USER/DATASET/N
    session.json              how the session was started (records.Session)
    state.json                its status (records.State)
    code/                     copy of the code; working directory of the process
    log                       what the process printed
    report.jsonl, events.*    reported values, as lines of JSON and for TensorBoard
    checkpoints/NAME/model/   files that the user's `save` wrote; checkpoint.json beside it
    submissions/K/            log, answer.json, result.json
datasets/NAME/                folder that sessions get as DATASET_PATH
answers/NAME.csv              labels of its test images, outside every DATASET_PATH
cache/                        files that `nsml.cache` keeps
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
from pathlib import Path

# Names of users, data sets and checkpoints: valid file names on every operating system.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def home() -> Path:
    """Return the folder of the store: MANDOO_HOME, or ~/.mandoo if it is not set.

    Returns:
        An absolute path; the folder may not exist yet.

    Raises:
        ValueError: MANDOO_HOME is not set and the user has no home folder.
    """
    try:
        named = os.environ.get("MANDOO_HOME")
        return (Path(named).expanduser() if named else Path.home() / ".mandoo").absolute()
    except RuntimeError:
        # The user of a container may have no home folder.
        raise ValueError(
            "the user has no home folder: set MANDOO_HOME to a folder for data sets and sessions."
        ) from None


def user() -> str:
    """Return MANDOO_USER or the login name, with invalid letters replaced by "_"."""
    try:
        name = os.environ.get("MANDOO_USER") or getpass.getuser()
    except (ImportError, KeyError, OSError):
        # The user of a container may have no name; Windows has no module pwd.
        name = "you"
    return checked(re.sub(r"[^A-Za-z0-9_.-]", "_", name), "user")


def checked(name: str, kind: str) -> str:
    """Return `name` if it is a valid file name.

    Args:
        name: name to check.
        kind: "data set", "checkpoint" or "user", for the message.

    Returns:
        The same name.

    Raises:
        ValueError: The name is not valid.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{kind} {name!r}: use at most 100 letters, digits, '_', '-' and '.', "
            "and neither '.' nor '-' at the beginning."
        )
    return name


def dataset_folder(name: str) -> Path:
    """Return the folder of a data set, which may not exist."""
    return home() / "datasets" / checked(name, "data set")


def answers_file(name: str) -> Path:
    """Return the file with the labels of a data set's test images, which may not exist."""
    return home() / "answers" / f"{checked(name, 'data set')}.csv"


def session_folder(name: str) -> Path:
    """Return the folder of a session, which may not exist.

    Args:
        name: name of the session.

    Returns:
        Path in the store.

    Raises:
        ValueError: The name does not have the form USER/DATASET/N.
    """
    parts = name.strip("/").split("/")
    is_valid = len(parts) == 3 and parts[2].isdecimal() and all(map(NAME.fullmatch, parts))
    if not is_valid:
        raise ValueError(
            f"{name!r} is not the name of a session: use USER/DATASET/N, see `nsml ps -a`."
        )
    return home() / "sessions" / Path(*parts)


def existing_session(name: str) -> Path:
    """Return the folder of a session that exists.

    Args:
        name: name of the session.

    Returns:
        Path in the store.

    Raises:
        ValueError: There is no such session.
    """
    folder = session_folder(name)
    if not folder.is_dir():
        raise ValueError(f"no session {name}: `nsml ps -a` lists all.")
    return folder


def checkpoint_folder(session: str, checkpoint: str) -> Path:
    """Return the folder of a checkpoint, which may not exist."""
    return session_folder(session) / "checkpoints" / checked(checkpoint, "checkpoint")


def next_folder(above: Path) -> Path:
    """Create and return the folder `above/N` with the next free number N.

    Two processes that call this at the same time get different numbers.

    Args:
        above: folder of the numbered folders; created if it does not exist.

    Returns:
        The new, empty folder.
    """
    above.mkdir(parents=True, exist_ok=True)
    numbers = [int(folder.name) for folder in above.iterdir() if folder.name.isdecimal()]
    number = max(numbers, default=0) + 1
    while True:
        with contextlib.suppress(FileExistsError):
            (above / str(number)).mkdir()
            return above / str(number)
        number += 1


def session_names(dataset: str = "*") -> list[str]:
    """Return the names of all sessions, or of those on one data set.

    Args:
        dataset: name of the data set; all data sets by default.

    Returns:
        USER/DATASET/N, sorted by user, data set and number.
    """
    paths = (home() / "sessions").glob(f"*/{dataset}/*/session.json")
    folders = [path.parent for path in paths if path.parent.name.isdecimal()]
    folders.sort(key=lambda folder: (folder.parent, int(folder.name)))
    return ["/".join(folder.parts[-3:]) for folder in folders]


def checkpoint_names(session: str) -> list[str]:
    """Return the names of an existing session's complete checkpoints, oldest first."""
    folder = existing_session(session) / "checkpoints"
    notes = sorted(folder.glob("*/checkpoint.json"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in notes if NAME.fullmatch(path.parent.name)]


def find_checkpoint(session: str, checkpoint: str = "") -> Path:
    """Return the folder of a checkpoint that exists.

    Args:
        session: name of the session.
        checkpoint: name of the checkpoint; the newest one by default.

    Returns:
        Path in the store; its last part is the name of the checkpoint.

    Raises:
        ValueError: There is no such session or checkpoint.
    """
    names = checkpoint_names(session)
    if not names:
        raise ValueError(f"{session} has saved no checkpoint.")
    if checkpoint and checkpoint not in names:
        raise ValueError(f"{session} has no checkpoint {checkpoint!r}. It has: {', '.join(names)}.")
    return checkpoint_folder(session, checkpoint or names[-1])
