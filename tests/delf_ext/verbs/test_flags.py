"""Test the text of --help, and which verb accepts which flags."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

import dual_main
from delf_ext.config import UsageError
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS as ORIGINAL
from delf_ext.recipes.registry import overview
from delf_ext.verbs.flag_table import FLAGS, GROUPS
from delf_ext.verbs.flags import new_flags
from delf_ext.verbs.help import EXAMPLES as HELP_EXAMPLES
from delf_ext.verbs.help import VERB_GROUPS
from delf_ext.verbs.training_flags import recipe_from_flags
from delf_ext.verbs.verb_table import EMBEDDING_HELP, VERBS, require_own_flags

EXAMPLES = [(name, example) for name, verb in VERBS.items() for example in verb.examples]


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what --help prints."""
    with pytest.raises(SystemExit) as ended:
        dual_main.main([*arguments, "--help"])
    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def words_of(example: str) -> list[str]:
    """Return the arguments of an example, without a redirection of its output."""
    words = shlex.split(example.split(" > ")[0])
    assert words[0] == "mandoo"
    return words[1:]


# --- help


def test_help_fits_one_screen_and_lists_each_verb_once_under_its_group(capsys) -> None:
    lines = help_of(capsys).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    group = None
    listed = {}
    for line in lines:
        if line.endswith(":") and not line.startswith(" "):
            group = line[:-1]
        elif re.match(r"  \w+ ", line) and not line.startswith("  mandoo "):
            name, summary = line.split(maxsplit=1)
            assert name not in listed
            listed[name] = (group, summary)
    assert listed == {name: (VERB_GROUPS[verb.group], verb.summary) for name, verb in VERBS.items()}
    assert "mandoo VERB --help lists the flags of a verb, with examples." in lines


@pytest.mark.parametrize("command", [command for command, _ in HELP_EXAMPLES])
def test_every_example_of_the_overview_parses(command: str) -> None:
    verb, _ = dual_main.parse(words_of(command))
    assert verb in VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_lists_only_its_flags_and_ends_with_examples(verb: str, capsys) -> None:
    text = help_of(capsys, verb)
    assert text.startswith(f"usage: mandoo {verb} [--flags]\n  {VERBS[verb].summary}\n")
    assert max(map(len, text.splitlines())) <= 100
    listed = re.findall(r"^  --(\w+) ", text, re.MULTILINE)
    assert len(listed) == len(set(listed)) and set(listed) == set(VERBS[verb].flags)
    flags, _, examples = text.partition("\nexamples:\n")
    assert "\n  mandoo " not in flags
    assert tuple(line.strip() for line in examples.splitlines()) == VERBS[verb].examples
    assert 2 <= len(VERBS[verb].examples) <= 3


def test_help_shows_choices_and_defaults(capsys) -> None:
    text = " ".join(help_of(capsys, "evaluate").split())
    assert "(one of: avg, max, gem, rmac, attention; default: avg)" in text
    assert "(default: 0.3536,0.5,0.7071,1,1.4142)" in text
    assert "seed of every random choice (default: 0)" in text
    assert "(default: on; switch off: --noreport)" in text


def test_help_of_a_verb_shows_its_own_default(capsys) -> None:
    assert re.search(r"--batch_size +images .*\(default: 64\)", help_of(capsys, "train"))
    assert re.search(r"--batch_size +images .*\(default: 32\)", help_of(capsys, "search"))
    assert BATCH_SIZE == 32


def test_a_verb_explains_only_flags_that_it_takes() -> None:
    for verb in VERBS.values():
        own = set(verb.help) - set(EMBEDDING_HELP)
        assert own <= set(verb.flags)


@pytest.mark.parametrize(("verb", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_every_example_parses_to_its_verb(verb: str, example: str) -> None:
    parsed, values = dual_main.parse(words_of(example))
    assert parsed == verb
    given = [name for name in FLAGS if values[name].present]
    assert set(given) <= set(VERBS[verb].flags)


def test_every_example_of_train_gives_a_recipe_with_losses() -> None:
    for example in VERBS["train"].examples:
        _, values = dual_main.parse(words_of(example))
        if not values.resume:
            assert recipe_from_flags(values).losses


@pytest.mark.parametrize("name", overview())
def test_the_command_of_every_recipe_parses(name: str) -> None:
    command = overview()[name].command
    if command.startswith("mandoo "):
        verb, values = dual_main.parse(words_of(command))
        assert verb == "train" and recipe_from_flags(values).name
    else:
        assert command.startswith(("make ", "python -m ")), command


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "-h"], ["recipes"], ["fly"], ["--lr=0"]]
)
def test_help_and_usage_errors_import_no_tensorflow(root: Path, arguments: list[str]) -> None:
    program = (
        "import sys, dual_main\n"
        "try:\n dual_main.main(sys.argv[1:])\n"
        "except SystemExit:\n pass\n"
        "sys.exit(int('tensorflow' in sys.modules))"
    )
    command = [sys.executable, "-c", program, *arguments]
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == 0


# --- flags and the verbs that take them


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_flag_is_refused_with_the_verbs_that_take_it(verb: str, capsys) -> None:
    foreign = next(name for name in ("candidate", "draw_classes") if name not in VERBS[verb].flags)
    takers = [name for name in VERBS if foreign in VERBS[name].flags]
    assert takers
    with pytest.raises(SystemExit) as ended:
        dual_main.main([verb, f"--{foreign}=7"])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"usage error: {verb} does not use --{foreign}; it is a flag of {', '.join(takers)}. "
        f"See `mandoo {verb} --help`.\n"
    )


def with_value(name: str) -> str:
    """Return the flag with a value of its type."""
    if name == "set":
        return "--set=optimizer.lr=1"
    flag = FLAGS[name]
    if isinstance(flag.default, bool):
        return f"--{name}"
    value = flag.choices[0] if flag.choices else 1
    return f"--{name}={value}"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_accepts_its_flags_and_refuses_all_others(verb: str) -> None:
    for name in FLAGS:
        values = new_flags()
        values(["mandoo", with_value(name)])
        if name in VERBS[verb].flags:
            require_own_flags(verb, values)
        else:
            with pytest.raises(UsageError, match=f"^{verb} does not use --{name}; it is a flag of"):
                require_own_flags(verb, values)


def test_a_foreign_flag_is_refused_even_with_its_default_value() -> None:
    values = new_flags()
    values(["mandoo", "--epochs=200"])
    with pytest.raises(UsageError, match="search does not use --epochs; it is a flag of train"):
        require_own_flags("search", values)


def test_every_flag_belongs_to_one_group_and_to_a_verb() -> None:
    assert {name for verb in VERBS.values() for name in verb.flags} == set(FLAGS)
    assert sum(map(len, GROUPS.values())) == len(FLAGS), "a flag is in two groups"
    for verb in VERBS.values():
        assert len(set(verb.flags)) == len(verb.flags)


def test_train_accepts_the_flags_of_infer_that_a_submission_uses() -> None:
    unused = {"pooling", "onnx_model", "features", "store_features", "out"}
    assert set(VERBS["infer"].flags) - set(VERBS["train"].flags) == unused


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_no_flag_that_the_verb_refuses(verb: str, capsys) -> None:
    text = help_of(capsys, verb).replace(f"usage: mandoo {verb} [--flags]", "")
    named = {name.removeprefix("no") for name in re.findall(r"--(\w+)", text)}
    accepted = {name.removeprefix("no") for name in VERBS[verb].flags}
    assert named <= accepted


def test_flags_of_the_original_keep_name_and_default() -> None:
    values = new_flags()
    for name, flag in ORIGINAL.items():
        assert values[name].value == flag.default, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--bogus=1"], "usage error: Unknown command line flag 'bogus'"),
        (["--train_sims"], "Unknown command line flag 'train_sims'. Did you mean: train_sim"),
        (
            ["evaluate", "photos/"],
            "usage error: unexpected argument 'photos/': flags start with --, such as "
            "--data=photos. See `mandoo evaluate --help`.",
        ),
        (["fly"], "unknown verb 'fly'. Verbs: train, evaluate, compare"),
        (["search", "--top_k=many"], "--top_k must be a whole number. Received 'many'."),
        (["--margin=a: b"], "usage error: --margin must be a number. Received 'a"),
        (["--augmentation=foo"], "usage error: --augmentation takes no value. Received 'foo'."),
        (
            ["evaluate", "--pooling=sum"],
            "usage error: --pooling must be avg, max, gem, rmac or attention. Received 'sum'.",
        ),
        (["evaluate", "--set", "optimizer.lr=1"], "evaluate does not use --set; it is a flag of"),
    ],
)
def test_a_flag_or_word_that_cannot_be_parsed_is_named(
    arguments: list[str], message: str, refused
) -> None:
    assert message in refused(2, *arguments)


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "train"])
def test_a_foreign_flag_is_refused_before_the_verb_is_imported(
    verb: str, monkeypatch, refused
) -> None:
    def no_import(name: str) -> None:
        pytest.fail(f"{name} was imported")

    monkeypatch.setattr(dual_main.importlib, "import_module", no_import)
    assert f"{verb} does not use --epochs" in refused(2, verb, "--epochs=3")


def test_each_call_of_new_flags_has_its_own_values() -> None:
    first = new_flags()
    second = new_flags()
    first(["mandoo", "--seed=5"])
    second(["mandoo"])
    assert (first.seed, second.seed) == (5, 0)
    with pytest.raises(absl_flags.Error):
        second(["mandoo", "--seed=x"])


# --- numbers

FREE_NUMBERS = {"local_rotations": "degrees: a turn in either direction"}
"""Number flag that accepts -1 and 0 -> the reason."""


def is_number(name: str) -> bool:
    """Return whether a flag takes numbers: by its default, its entries, or its kind."""
    flag = FLAGS[name]
    default = flag.default
    if isinstance(default, list) and default:
        return bool(re.fullmatch(r"[\d.]+", default[0]))
    return type(default) in (int, float)


@pytest.mark.parametrize("verb", VERBS)
def test_every_number_flag_refuses_what_is_out_of_its_range(verb: str, capsys) -> None:
    def message(flag: str) -> str:
        with contextlib.suppress(SystemExit):
            dual_main.parse([verb, flag])
        return capsys.readouterr().err

    for name in filter(is_number, VERBS[verb].flags):
        for value in ("nan", "inf", "1e400", "2000000000000", "-2000000000000"):
            assert f"usage error: --{name}" in message(f"--{name}={value}"), (name, value)
        refused_values = [value for value in ("-1", "0") if message(f"--{name}={value}")]
        assert refused_values or name in FREE_NUMBERS, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch_size=0"], "--batch_size must be at least 1 and at most 65536. Received 0."),
        (["--image_size=-5"], "--image_size must be at least 32 and at most 4096. Received -5."),
        (["infer", "--seed=-1"], "--seed must be at least 0 and at most 4294967295. Received -1."),
        (["--lr=0"], "--lr must be at least 1e-12 and at most 1000. Received 0.0."),
        (["--dev_percent=2"], "--dev_percent must be at least 0 and below 1. Received 2.0."),
        (["--epochs=99999999999"], "--epochs must be at most 1000000000. Received 99999999999."),
        (["rerank", "--time_budget=-1"], "--time_budget must be at least 0."),
        (["rerank", "--time_budget=nan"], "--time_budget must be a number. Received nan."),
        (["rerank", "--local_scales=1,big"], "--local_scales is a list of numbers, separated by"),
        (["rerank", "--local_rotations=0,inf"], "--local_rotations.1 must be a number."),
        (["rerank", "--local_scales="], "--local_scales needs at least one number."),
        (["evaluate", "--max_features=0"], "--max_features must be at least 1 and at most 100000."),
        (["--pause=2"], "--pause must be at least 0 and at most 1. Received 2."),
        (["extract", "--out=o", "--data=d", "--shard=3/2"], "--shard takes i/n"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(
    arguments: list[str], message: str, refused
) -> None:
    assert message in refused(2, *arguments)
