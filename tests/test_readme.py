"""Every command of the README is run, in its order, in a folder laid out as the README says.

Flags or settings that make it small (a trunk cut after its first block, 32 px, one epoch) are
appended; nothing else is changed.
"""

from __future__ import annotations

import csv
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
from delf_ext.nsml import runner, store
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.mandoo_dual import FLAGS as ORIGINAL
from delf_ext.recipes.registry import find_recipe
from delf_ext.verbs.verb_table import VERBS
from pretrained.convert import write_checkpoint

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
SETTINGS += ("model.trunk.end_point=block1", "stages.0.epochs=1")
TINY_BASELINE = ["--image_size=32", "--batch_size=8", "--epochs=1"]


def blocks(root: Path, name: str = "README.md") -> list[tuple[str, str]]:
    """Return (language, text) of the README's code blocks."""
    return re.findall(r"```(\w*)\n(.*?)```", (root / name).read_text(), re.DOTALL)


def commands(root: Path, name: str = "README.md") -> list[str]:
    """Return the lines of the README's code blocks without a language, without comments."""
    texts = [text for language, text in blocks(root, name) if not language]
    lines = [line.split("#")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line]


def made_small(words: list[str]) -> list[str]:
    """Return the words of a command, with the small sizes appended that its verb takes."""
    verb, flags = dual_main.parse(words)
    if flags.resume or not ({"image_size", "local_image_size"} & set(VERBS[verb].flags)):
        return words
    small = [flag for flag in TINY if flag[2:].partition("=")[0] in VERBS[verb].flags]
    if flags["recipe"].present:
        small = [flag for flag in small if flag[2:].partition("=")[0] not in ORIGINAL]
        small += [f"--set={one}" for one in fitting(find_recipe(flags.recipe))]
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
    with (folder / "products.csv").open("w", newline="") as file:
        rows = [
            (p.relative_to(folder), p.parent.name, "query" if i % 2 else "gallery")
            for i, p in enumerate(photos)
        ]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    trunk = SlimTrunk("resnet_v1_50/block1")
    trunk(tf.zeros([1, 32, 32, 3]))
    values = {variable.name.split(":")[0]: variable.numpy() for variable in trunk.variables}
    (folder / "pre_trained").mkdir()
    for prefix in ("resnet_v1_50.ckpt", "pre_trained/resnet_v1_50.ckpt"):
        write_checkpoint(folder / prefix, values)
    return folder


def test_the_readme_has_commands_and_its_make_targets_exist(root: Path) -> None:
    lines = commands(root)
    assert len([line for line in lines if "mandoo" in line or "python" in line]) >= 8
    makefile = (root / "Makefile").read_text()
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


def test_every_command_runs_and_then_the_python(
    root: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MANDOO_CACHE", str(workplace / "cache"))
    for line in commands(root):
        words = shlex.split(line)
        if words[0] == "mandoo" or words[:2] == ["python", "dual_main.py"]:
            dual_main.main(made_small(words[1:] if words[0] == "mandoo" else words[2:]))
        elif words[:3] == ["python", "-m", "baseline_keras"]:
            assert not baseline_keras.__main__.main([*words[3:], *TINY_BASELINE])
        elif words[0] == "nsml":
            continue  # below
        else:
            assert words[0] in ("make", "."), f"not run by any test: {line}"
    made = ["first.json", "report/index.html", "reranked/ranking.npz", "flat/report/index.html"]
    for name in (*made, "match.png", "features.h5"):
        assert (workplace / name).is_file(), name
    for language, text in blocks(root):
        assert language in ("", "python"), f"not run by any test: {text}"
        if language:
            exec(compile(text, "README.md", "exec"), {"__name__": "readme"})


def test_every_command_of_mandoo_parses(root: Path) -> None:
    """Each flag is one that its verb takes, in both languages."""
    for name in ("README.md", "README.ko.md"):
        for line in commands(root, name):
            words = shlex.split(line)
            if words[0] == "mandoo" or words[:2] == ["python", "dual_main.py"]:
                dual_main.parse(words[1:] if words[0] == "mandoo" else words[2:])
            elif words[:2] == ["nsml", "run"] and "dual_main.py" in words:
                dual_main.parse(shlex.split(words[-1]))


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
    lines = [line for line in commands(root) if line.startswith("nsml ")]
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
    states = {name: store.read_state(name) for name in store.session_names()}
    assert len(states) == 3 and states["you/ir_ph1_v2/1"].status in ("running", "exited")
    for name, state in states.items():
        assert state.status != "failed", f"{name}: {state.reason}"
        if state.status == "running":
            runner.stop(name)


def test_the_korean_readme_has_the_same_commands(root: Path) -> None:
    korean = commands(root, "README.ko.md")
    assert len(korean) >= 20 and not set(korean) - set(commands(root))


def test_the_commands_named_in_the_text_exist(
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (root / "README.md").read_text()
    assert "python -m pretrained.fetch resnet_v1_50" in text
    assert "python -m pretrained.convert" in text
    assert pretrained.fetch.main(["--list"]) == 0
    assert "resnet_v1_50" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        pretrained.convert.main(["--help"])
    assert ended.value.code == 0
    named = re.findall(r"benchmarks/\w+\.py", text)
    assert len(named) >= 3 and all((root / name).is_file() for name in named)
