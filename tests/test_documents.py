"""Run every command and every Python program of README and docs, in the order of PAGES.

Flags that make a command small (a trunk cut after its first block, 32 px, one epoch) are appended;
nothing else is changed.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

import baseline_keras.__main__
import dual_main
import pretrained.convert
import pretrained.fetch
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.config import UsageError
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.nsml import cli as nsml
from delf_ext.nsml import records, runner, store
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS as ORIGINAL
from delf_ext.recipes.registry import find_recipe
from delf_ext.recipes.trunk_names import LITE
from delf_ext.verbs.verb_table import VERBS
from pretrained.convert import write_checkpoint

PAGES = ("README.md", "docs/photographs.md", "docs/adapt.md", "docs/classify.md")
PAGES += ("docs/training.md", "docs/local_features.md", "docs/losses.md", "docs/reranking.md")
PAGES += ("docs/recipes.md",)
KOREAN = {"README.ko.md": "README.md", "docs/nsml.ko.md": "docs/nsml.md"}
NOT_RUN_HERE = ("make", ".", ".ci/run", "nsml", ".venv/bin/python", "python3", "pip")
LOCAL = ["--local_layer=block1", "--local_image_size=64", "--local_scales=1", "--local_rotations=0"]
TINY = [
    *("--image_size=32", "--batch_size=8", "--resnet_type=resnet_v1_50/block1", "--epochs=1"),
    *("--mixed_precision=off", "--dev_percent=0.34", *LOCAL, "--descriptor_dim=16"),
]
SETTINGS = (
    "input.size_px=32",
    "sampling.batch_size=8",
    "sampling.classes=2",
    "validation.share=0.34",
)
SETTINGS += ("model.trunk.end_point=block1", "model.heads.block3.after=block1")
SETTINGS += ("model.trunk.frozen=trunk/stem", "test_time=TestTime")
SETTINGS += tuple(f"stages.{number}.epochs=1" for number in range(3))
SETTINGS += tuple(f"stages.{number}.size_px=0" for number in range(3))
TINY_BASELINE = ["--image_size=32", "--batch_size=8", "--epochs=1"]


def blocks(root: Path, name: str) -> list[tuple[str, str]]:
    """Return (language, text) of each code block of a page."""
    return re.findall(r"```(\w*)\n(.*?)```", (root / name).read_text(), re.DOTALL)


def commands_of(text: str) -> list[str]:
    """Return the lines of a code block without comments."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


def commands(root: Path, *pages: str) -> list[str]:
    """Return the commands in all code blocks without a language."""
    texts = [text for page in pages for language, text in blocks(root, page) if not language]
    return [line for text in texts for line in commands_of(text)]


def made_small(words: list[str]) -> list[str]:
    """Return the words of a command, with the small sizes appended that its verb takes."""
    verb, flags = dual_main.parse(words)
    if flags.resume or not ({"image_size", "local_image_size"} & set(VERBS[verb].flags)):
        return words
    names = set(VERBS[verb].flags)
    weights = flags.local_model or flags.pretrained_model
    if verb != "train" and (weights is None or weights in LITE):
        # A run has its own trunk and size, and weights of a package need their trunk.
        names -= {"image_size", "resnet_type"}
    small = [flag for flag in TINY if flag[2:].partition("=")[0] in names]
    if flags["recipe"].present:
        small = [flag for flag in small if flag[2:].partition("=")[0] not in ORIGINAL]
        small += [f"--set={one}" for one in fitting(find_recipe(flags.recipe))]
        small += ["--folds=2"] * bool(flags.folds)
    takes_data = "data" in VERBS[verb].flags and not flags.data
    return [*words, *small, *["--data=drawn"] * takes_data]


def fitting(recipe: AnyRecipe) -> list[str]:
    """Return the settings above that change something in the recipe."""
    found = []
    for setting in SETTINGS:
        try:
            with_settings(recipe, [setting])
        except UsageError:
            continue
        found.append(setting)
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, products.csv, phone.jpg, cover.jpg and weights, as the README's reader has them."""
    folder = tmp_path_factory.mktemp("reader")
    config = DrawConfig(num_classes=6, num_train=24, num_queries=3, num_gallery=9, image_size_px=48)
    drawn = draw_dataset(folder / "drawn", config, progress=False)
    shutil.copytree(drawn / "train" / "train_data", folder / "photos")
    photos = sorted((folder / "photos").rglob("*.jpg"))
    shutil.copy(photos[0], folder / "phone.jpg")
    shutil.copy(photos[1], folder / "cover.jpg")
    # Photographs that are trained on are refused as queries.
    new_photographs = draw_dataset(
        folder / "new", dataclasses.replace(config, seed=1), progress=False
    )
    with (folder / "products.csv").open("w", newline="") as file:
        rows = [
            (p.relative_to(folder), p.parent.name, "query" if i % 2 else "gallery")
            for i, p in enumerate(sorted((new_photographs / "train").rglob("*.jpg")))
        ]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    trunk = SlimTrunk("resnet_v1_50/block1")
    trunk(tf.zeros([1, 32, 32, 3]))
    values = {variable.name.split(":")[0]: variable.numpy() for variable in trunk.variables}
    (folder / "pre_trained").mkdir()
    for prefix in ("resnet_v1_50.ckpt", "pre_trained/resnet_v1_50.ckpt"):
        write_checkpoint(folder / prefix, values)
    return folder


def all_pages(root: Path) -> list[str]:
    pages = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    return sorted(str(page.relative_to(root)) for page in pages if page.name != "CHANGELOG.md")


def test_pages_name_only_files_and_make_targets_that_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for page in all_pages(root):
        text = (root / page).read_text()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (root / page).parent.joinpath(target).exists(), f"{page}: {target}"
        for name in re.findall(
            r"`((?:benchmarks|examples|tests|data_io|delf_ext)/[\w/]+\.py)`", text
        ):
            assert (root / name).is_file(), f"{page}: {name}"
        for line in commands(root, page):
            if line.startswith("make "):
                assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


def test_no_page_says_that_the_package_index_has_mandoo(root: Path) -> None:
    assert not [page for page in all_pages(root) if "install mandoo" in (root / page).read_text()]


def test_every_command_and_program_runs(
    root: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MANDOO_CACHE", str(workplace / "cache"))
    for page in PAGES:
        for language, text in blocks(root, page):
            if language == "python":
                exec(compile(text, page, "exec"), {"__name__": "page"})
            elif not language:
                for line in commands_of(text):
                    run(line)
    results = [
        "first.json",
        "report/index.html",
        "verified/ranking.npz",
        "match.png",
        "features.h5",
    ]
    for name in results:
        assert (workplace / name).is_file(), name


def run(line: str) -> None:
    """Run a command as a user would, made small."""
    words = shlex.split(line)
    if words[0] == "mandoo":
        dual_main.main(made_small(words[1:]))
    elif words[:2] == ["python", "dual_main.py"]:
        dual_main.main(made_small(words[2:]))
    elif words[:3] == ["python", "-m", "baseline_keras"]:
        assert not baseline_keras.__main__.main([*words[3:], *TINY_BASELINE])
    elif words[:3] == ["python", "-m", "pretrained.fetch"]:
        # No test needs a network.
        assert pretrained.fetch.main(["--list"]) == 0
    else:
        assert words[0] in NOT_RUN_HERE, f"not run by any test: {line}"


def test_every_command_parses_in_both_languages(root: Path) -> None:
    for line in commands(root, *all_pages(root)):
        words = shlex.split(line)
        if words[0] == "mandoo" or words[:2] == ["python", "dual_main.py"]:
            dual_main.parse(words[1:] if words[0] == "mandoo" else words[2:])
        elif words[:2] == ["nsml", "run"] and "dual_main.py" in words:
            dual_main.parse(shlex.split(words[-1]))
        else:
            assert words[0] in ("python", *NOT_RUN_HERE), f"not run by any test: {line}"


def test_sizes_are_made_small_by_flags_that_the_verb_takes() -> None:
    """The helper above: neither a foreign flag nor an original's one beside --recipe."""
    assert made_small(["draw", "--out=x"]) == ["draw", "--out=x"]
    assert made_small(["--resume", "--run_dir=r"]) == ["--resume", "--run_dir=r"]
    recipe = made_small(["--recipe=mandoo_triplet", "--data=photos"])
    assert "--set=sampling.classes=2" in recipe and "--set=sampling.batch_size=8" not in recipe
    assert not any(word.startswith("--image_size") for word in recipe)
    assert "--epochs=1" not in made_small(["search", "--data=p", "--image=i.jpg", "--run_dir=r"])


@pytest.mark.slow
def test_every_command_of_nsml_runs(
    root: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a folder with the code, as after a clone. Checkpoint 300 is the newest here."""
    monkeypatch.chdir(workplace)
    for name, value in {"MANDOO_HOME": "home", "MANDOO_CACHE": "cache"}.items():
        monkeypatch.setenv(name, str(workplace / name / value))
    monkeypatch.setenv("MANDOO_USER", "you")
    shutil.copy(root / "dual_main.py", workplace)
    for package in ("data_io", "delf_ext", "baseline_keras", "pretrained"):
        shutil.copytree(root / package, workplace / package, ignore=shutil.ignore_patterns("*.pyc"))
    lines = [line for line in commands(root, "docs/nsml.md") if line.startswith("nsml ")]
    assert len(lines) >= 11
    for line in lines:
        words = shlex.split(line)[1:]
        words += ["--classes=6"] if "--draw" in words else []
        if words[0] == "run":
            given = shlex.split(words[-1])
            is_baseline = "baseline_keras" in words
            small = [*given, *TINY_BASELINE] if is_baseline else made_small([*given, "--data=x"])
            words[-1] = shlex.join(word for word in small if word != "--data=x")
        elif words[-1] == "300":
            del words[-1]
        elif "300" in words:
            words[words.index("300")] = store.checkpoint_names(words[1])[-1]
        assert nsml.main(words) == 0, line
    states = {name: records.read_state(name) for name in store.session_names()}
    assert len(states) == 3 and states["you/ir_ph1_v2/1"].status in ("running", "exited")
    for name, state in states.items():
        assert state.status != "failed", f"{name}: {state.reason}"
        if state.status == "running":
            runner.stop(name)


def test_korean_pages_have_the_same_commands_and_programs(root: Path) -> None:
    for korean, english in KOREAN.items():
        assert commands(root, korean) == commands(root, english)
        assert [text_without_comments(text) for text in programs(root, korean)] == [
            text_without_comments(text) for text in programs(root, english)
        ]


def programs(root: Path, page: str) -> list[str]:
    return [text for language, text in blocks(root, page) if language == "python"]


def text_without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_commands_named_in_the_text_exist(
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (root / "docs/weights.md").read_text()
    assert "python -m pretrained.fetch resnet_v1_50" in text
    assert "python -m pretrained.convert" in text
    assert pretrained.fetch.main(["--list"]) == 0
    assert "resnet_v1_50" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        pretrained.convert.main(["--help"])
    assert ended.value.code == 0
