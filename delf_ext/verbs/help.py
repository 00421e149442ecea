"""The text of --help."""

from __future__ import annotations

from delf_ext.verbs.flags import GROUPS, Flag
from delf_ext.verbs.verb_table import VERBS


def help_text(verb: str | None = None) -> str:
    """Return the verbs on one screen; for a verb its flags, by group, with examples."""
    return _help_of(verb) if verb else _help_of_all()


def _help_of_all() -> str:
    lines = ["usage: mandoo [VERB] [--flags]     (the same as: python dual_main.py ...)", ""]
    lines += [f"  {name:<10} {verb.summary}" for name, verb in VERBS.items()]
    lines += ["", "examples:"]
    lines += [
        f"  {VERBS[name].examples[0]}"
        for name in ("train", "evaluate", "search", "compare", "demo")
    ]
    return "\n".join([*lines, "", "mandoo VERB --help lists the flags of a verb."])


def _help_of(name: str) -> str:
    verb = VERBS[name]
    lines = [f"usage: mandoo {name} [--flags]", f"  {verb.summary}", "", "examples:"]
    lines += [f"  {example}" for example in verb.examples]
    for group, entries in GROUPS.items():
        own = [flag for flag in entries if flag.name in verb.flags]
        if own:
            lines += ["", f"{group}:", *map(_line_of, own)]
    return "\n".join(lines)


def _line_of(flag: Flag) -> str:
    values = f" ({', '.join(flag.choices)})" if flag.choices else ""
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    shown = "" if flag.default in (None, False, [], ()) else f" [{default}]"
    return f"  --{flag.name:<22} {flag.help}{values}{shown}"
