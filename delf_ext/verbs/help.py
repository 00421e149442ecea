"""Format the text of `mandoo --help` and `mandoo VERB --help`."""

from __future__ import annotations

import math
import textwrap

from delf_ext.recipes.original_flags import FLAG_GROUPS
from delf_ext.verbs.flag_table import GROUPS, AnyFlag
from delf_ext.verbs.verb_table import TRAIN, VERBS, Verb

WIDTH = 100
INDENT = 30
VERB_GROUPS = {
    "Use": "Use a model",
    "Train": "Train a model",
    "Measure": "Measure models",
    "NSML": "NSML, the platform of the hackathon (it has its own command: nsml --help)",
}
SUBMISSION = "Settings for a later `nsml submit`"
EXAMPLES = (
    ("mandoo search --data=photos/ --image=phone.jpg", "find similar photographs"),
    ("mandoo evaluate --data=products.csv", "measure it, with labels"),
    (
        "mandoo adapt --data=photos/ --for=unseen_classes --out=runs/head",
        "fit a head to your labels",
    ),
    ("mandoo demo", "try it on drawn products"),
)
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def help_text(verb: str | None = None) -> str:
    """Return the overview of all verbs, or the flags and examples of one.

    Args:
        verb: key of `VERBS`; None for the overview.
    """
    lines = _overview() if verb is None else _verb_help(verb)
    return "\n".join(lines)


def _overview() -> list[str]:
    lines = [
        "usage: mandoo [VERB] [--flags]     (the same as: python dual_main.py [VERB] [--flags])",
        "",
        "Find the same product in a large collection of images.",
    ]
    lines += ["", "start here:"]
    lines += [f"  {command:<65}# {purpose}" for command, purpose in EXAMPLES]
    for group, title in VERB_GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [
            f"  {name:<10} {verb.summary}" for name, verb in VERBS.items() if verb.group == group
        ]
    return [*lines, "", "mandoo VERB --help lists the flags of a verb, with examples."]


def _verb_help(name: str) -> list[str]:
    verb = VERBS[name]
    lines = [f"usage: mandoo {name} [--flags]", f"  {verb.summary}"]
    for title, flags in _flags_by_group(name).items():
        lines += ["", f"{title}:"]
        for flag in flags:
            lines += _flag_lines(flag, verb)
    return [*lines, "", "examples:", *(f"  {example}" for example in verb.examples)]


def _flags_by_group(name: str) -> dict[str, list[AnyFlag]]:
    """Return title -> flags of a verb. Only `train` shows the groups of the 2018 original."""
    groups: dict[str, list[AnyFlag]] = {}
    stored = []
    for group, entries in GROUPS.items():
        title = "Model" if group in FLAG_GROUPS and name != "train" else group
        for flag in entries:
            if flag.name not in VERBS[name].flags:
                continue
            if name == "train" and flag.name not in TRAIN:
                stored.append(flag)
            else:
                own_title = VERBS[name].groups.get(flag.name, title)
                groups.setdefault(own_title, []).append(flag)
    return groups | {SUBMISSION: stored} if stored else groups


def _flag_lines(flag: AnyFlag, verb: Verb) -> list[str]:
    text = verb.help.get(flag.name) or _describe(flag)
    for label in ("default: ", "one of: "):
        text = text.replace(label, label.replace(" ", NO_BREAK_SPACE))
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  --{flag.name}".ljust(INDENT),
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK_SPACE, " ") for line in lines]


def _describe(flag: AnyFlag) -> str:
    """Return help, choices and default. A flag without a default says in its help what happens."""
    default = flag.default
    if default is True:
        return f"{flag.help} (default: on; switch off: --no{flag.name})"
    if default is False:
        return f"{flag.help} (default: off)"
    if default in (None, math.inf, [], ()):
        return flag.help
    if isinstance(default, list):
        default = ",".join(default)
    choices = f"one of: {', '.join(flag.choices)}; " if flag.choices else ""
    return f"{flag.help} ({choices}default: {default})"
