"""Find the TensorFlow checkpoint that a path means, and name what is missing of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from data_io.weight_kinds import TABLE_END, weight_kind, why_no_checkpoint

STATE_FILE = "checkpoint"
SHARD = re.compile(r"(?P<prefix>.+)\.data-(?P<number>\d{5})-of-(?P<count>\d{5})$")
RUN_FILES = ("recipe.json", "facts.json", "config.json")
NUM_SHOWN = 4
FETCH_HINT = (
    "`python -m pretrained.fetch --list` lists the weights that can be downloaded; lite0, lite1 "
    "and lite2 name those of the extra [lite]."
)


def require_checkpoint(path: Path) -> None:
    """Check that a checkpoint exists with all its files; the weights are not read.

    Args:
        path: file of a V1 checkpoint, or path prefix of a V2 checkpoint.

    Raises:
        ValueError: there is no checkpoint, a file of it is missing, or the file is something else;
            the message says what to do.
    """
    if Path(f"{path}.index").is_file():
        _require_shards(path)
    elif path.is_file():
        if weight_kind(path) != "tensorflow":
            raise ValueError(f"{path}: {why_no_checkpoint(path)}.")
        shard = SHARD.match(path.name)
        if shard:
            raise ValueError(
                f"{path}: is a part of a checkpoint; pass {shard['prefix']} without the ending."
            )
    else:
        raise ValueError(f"{path}: no such checkpoint. {_what_is_there(path)}")


def find_checkpoint(path: str | Path, log: Callable[[str], None]) -> Path:
    """Return the path prefix of the checkpoint that a path means.

    Args:
        path: a prefix, one of the checkpoint's files, the state file, or a folder of checkpoints.
        log: called with one line if the checkpoint is not the path itself.

    Returns:
        Path prefix, or the file of a V1 checkpoint.

    Raises:
        ValueError: there is no checkpoint, or several that could be meant.
    """
    path = Path(path)
    found, reason = _meant(path)
    require_checkpoint(found)
    if reason:
        log(f"{path}: {reason}; the weights are those of {found}")
    return found


def has_state_file(folder: Path) -> bool:
    """Return whether a folder has the state file of `tf.train.Saver`, as its training folders."""
    return (folder / STATE_FILE).is_file()


def _meant(path: Path) -> tuple[Path, str]:
    """Return the prefix that a path means, and why, "" if that needs no words."""
    if Path(f"{path}.index").is_file():
        return path, ""
    if path.is_dir():
        return _in_folder(path)
    if path.name.endswith(".index"):
        return path.with_name(path.name.removesuffix(".index")), ""
    shard = SHARD.match(path.name)
    prefix = path.with_name(shard["prefix"]) if shard else path.with_suffix("")
    is_part = shard or (path.suffix in (".meta", ".json") and _exists(prefix))
    if is_part and path.is_file():
        return prefix, "is one file of a checkpoint"
    if path.is_file() and weight_kind(path) == "state file":
        return _in_folder(path.parent)
    return path, ""


def _in_folder(folder: Path) -> tuple[Path, str]:
    """Return the checkpoint of a folder that its state file names, else the newest or only one."""
    if any((folder / name).is_file() for name in RUN_FILES):
        raise ValueError(
            f"{folder}: is a run directory. Pass it with --run_dir; to start a training from its "
            "weights, with --from_run."
        )
    if (folder / "variables" / "variables.index").is_file():
        return folder / "variables" / "variables", "is a SavedModel"
    named = _named_by_state_file(folder)
    if named is not None and Path(f"{named}.index").is_file() | named.is_file():
        return named, f"its state file names {named.name}"
    prefixes = prefixes_in(folder)
    numbers = {_split_number(name) for name in prefixes}
    if len(prefixes) == 1:
        return folder / prefixes[0], "has one checkpoint"
    if len({stem for stem, _ in numbers}) == 1:
        newest = max(prefixes, key=lambda name: _split_number(name)[1])
        lost = f" ({named.name}, which its state file names, is missing)" if named else ""
        return folder / newest, f"{newest} is the newest of {len(prefixes)} checkpoints{lost}"
    if (folder / "saved_model.pb").is_file():
        raise ValueError(
            f"{folder}: is a SavedModel without its folder `variables`. Copy it again as a whole."
        )
    holds = "several checkpoints; pass one of them" if prefixes else "no checkpoint"
    raise ValueError(f"{folder}: this folder holds {holds}. {_what_is_there(folder / 'any')}")


def _named_by_state_file(folder: Path) -> Path | None:
    state = folder / STATE_FILE
    if not state.is_file():
        return None
    text = state.read_text(encoding="utf-8", errors="replace")
    line = re.search(r'^model_checkpoint_path:\s*"(.*)"', text, re.MULTILINE)
    if line is None:
        return None
    # The file may hold a path of another machine, so the same name in this folder comes first.
    name = re.split(r"[/\\]", line[1])[-1]
    here = folder / name
    there = folder / line[1]
    return there if Path(f"{there}.index").is_file() and not _exists(here) else here


def _exists(prefix: Path) -> bool:
    return prefix.is_file() or Path(f"{prefix}.index").is_file()


def _split_number(name: str) -> tuple[str, int]:
    """Split "model.ckpt-123" into ("model.ckpt", 123); the number is -1 if there is none."""
    stem, dash, number = name.rpartition("-")
    return (stem, int(number)) if dash and number.isdecimal() else (name, -1)


def prefixes_in(folder: Path) -> list[str]:
    """Return the names of the checkpoints in a folder, sorted.

    Args:
        folder: an existing folder or not.

    Returns:
        Names of V2 prefixes and of V1 files.
    """
    if not folder.is_dir():
        return []
    names = set()
    for file in folder.iterdir():
        if not file.is_file():
            continue
        if file.name.endswith(".index"):
            names.add(file.name.removesuffix(".index"))
        elif not SHARD.match(file.name) and _is_table(file):
            names.add(file.name)
    return sorted(names)


def _is_table(file: Path) -> bool:
    try:
        with open(file, "rb") as content:
            content.seek(max(0, file.stat().st_size - len(TABLE_END)))
            return content.read() == TABLE_END
    except OSError:
        return False


def _require_shards(prefix: Path) -> None:
    """Raise ValueError that names the missing data files of a V2 checkpoint."""
    counts: dict[int, set[int]] = {}
    for file in prefix.parent.iterdir():
        shard = SHARD.match(file.name)
        if shard and shard["prefix"] == prefix.name:
            counts.setdefault(int(shard["count"]), set()).add(int(shard["number"]))
    declared = _declared_shards(Path(f"{prefix}.index"))
    count = declared or max(counts, default=1)
    missing = sorted(set(range(count)) - counts.get(count, set()))
    if not missing:
        return
    names = [f"{prefix.name}.data-{number:05}-of-{count:05}" for number in missing[:NUM_SHOWN]]
    more = f" and {len(missing) - NUM_SHOWN} more" if len(missing) > NUM_SHOWN else ""
    others = sorted(
        file.name
        for file in prefix.parent.iterdir()
        if SHARD.match(file.name) and not file.name.startswith(f"{prefix.name}.")
    )
    renamed = ""
    if not counts and others:
        renamed = f" If {others[0]} belongs to it, give both files the same name."
    raise ValueError(
        f"{prefix}: a part of the checkpoint is missing: {', '.join(names)}{more}. Copy all files "
        f"{prefix.name}.* into one folder.{renamed}"
    )


def _declared_shards(index: Path) -> int:
    """Return the number of data files that an index declares, 0 if it cannot be read.

    The first entry of the table has an empty key and a BundleHeaderProto, whose first field is the
    number. Source: tensorflow/core/protobuf/tensor_bundle.proto.
    """
    with open(index, "rb") as file:
        start = file.read(8)
    if len(start) < 6 or start[:2] != b"\0\0" or start[3] != 0x08 or start[4] & 0x80:
        return 0
    return start[4]


def _what_is_there(path: Path) -> str:
    """Return a sentence about the folder of a path at which there is no checkpoint."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder}. {FETCH_HINT}"
    shards = sorted(file.name for file in folder.iterdir() if file.name.startswith(f"{path.name}."))
    data = [name for name in shards if SHARD.match(name)]
    if data:
        return f"{path.name}.index is missing beside {data[0]}: copy it to the same folder."
    near = prefixes_in(folder)
    if near:
        return f"In that folder: {', '.join(near[:NUM_SHOWN])}."
    return FETCH_HINT
