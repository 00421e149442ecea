"""Define the flags of the command line with absl, and check what was passed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from absl import flags

from data_io.files.names import unescaped
from data_io.files.output_files import home_path
from delf_ext.config import UsageError, require
from delf_ext.recipes.part import TYPE_NAMES, coerced, item_type, one_of
from delf_ext.verbs.flag_table import FLAGS, PATH_FLAGS, AnyFlag, Flag

KINDS = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    list: "list",
    tuple: "multi_string",
    type(None): "string",
}


def new_flags() -> flags.FlagValues:
    """Return a new set of all flags with their defaults; one process can run several verbs."""
    values = flags.FlagValues()
    for flag in FLAGS.values():
        if flag.choices:
            flags.DEFINE_enum(flag.name, flag.default, flag.choices, flag.help, flag_values=values)
        else:
            define = getattr(flags, f"DEFINE_{KINDS[_type_of(flag)]}")
            define(flag.name, flag.default, flag.help, flag_values=values)
    return values


def _type_of(flag: AnyFlag) -> type:
    """Return the type of a flag: that of its default, or of its kind if it has no default."""
    if flag.default is None and isinstance(flag, Flag) and get_origin(flag.kind) is Annotated:
        kind: type = get_args(flag.kind)[0]
        return kind
    return type(flag.default)


def expand_paths(values: flags.FlagValues) -> None:
    """Replace `~` by the home folder in every path that was passed.

    Args:
        values: the flags, after parsing; they are changed.

    Raises:
        UsageError: a path is empty, or the home folder is not known.
    """
    for name in PATH_FLAGS:
        if not values[name].present:
            continue
        value: Any = values[name].value
        paths = value if isinstance(value, list) else [value]
        require(bool(paths) and all(paths), f"--{name} is empty: pass a path, or leave it out.")
        try:
            texts = [_read_back(home_path(path)) for path in paths]
        except ValueError as error:
            raise UsageError(f"--{name}: {error}") from None
        values[name].value = texts if isinstance(value, list) else texts[0]


def _read_back(path: str) -> str:
    r"""Return the path that a printed name such as `run\xbb` means, if there is no other."""
    name = unescaped(path)
    is_escape = name != path and os.path.lexists(name) and not os.path.lexists(path)
    return name if is_escape else path


def require_in_range(values: flags.FlagValues) -> None:
    """Check each number that was passed against the range of its flag.

    Args:
        values: the flags, after parsing.

    Raises:
        UsageError: a number is out of range, or an entry of a list is not a number.
    """
    for name, flag in FLAGS.items():
        if values[name].present and flag.kind not in (None, Path) and not flag.choices:
            value = values[name].value
            if item_type(flag.kind):
                value = _numbers(name, value)
                require(bool(value), f"--{name} needs at least one number.")
            coerced(value, flag.kind, f"--{name}")


def _numbers(name: str, texts: Any) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise UsageError(
            f"--{name} is a list of numbers, separated by commas. Received {','.join(texts)}."
        ) from None


def describe_error(error: flags.Error) -> str:
    """Return the message of a parsing error; for a wrong value, say what the flag takes."""
    wrong_value = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
    if wrong_value is None:
        return str(error)
    name, value = wrong_value.groups()
    flag = FLAGS[name]
    if isinstance(flag.default, bool):
        return f"--{name} takes no value. Received {value!r}."
    needed = one_of(flag.choices) if flag.choices else TYPE_NAMES[_type_of(flag)]
    return f"--{name} must be {needed}. Received {value!r}."
