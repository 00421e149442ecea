"""Share fixtures of the tests of verbs: a cache folder, flags, small weights and products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import dual_main
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.verbs.flags import new_flags
from delf_ext.verbs.verb_table import VERBS
from pretrained.convert import write_checkpoint

TINY_NETWORK = [
    *("--image_size=32", "--resnet_type=resnet_v1_50/block1", "--batch_size=8"),
    *("--mixed_precision=off", "--layout=slim"),
]
TINY_LOCAL_FEATURES = [
    *("--local_layer=block1", "--local_image_size=64", "--local_scales=1,1.4142"),
    *("--local_rotations=0", "--max_features=80", "--descriptor_dim=16"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own, so that it finds no embeddings of other tests."""
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def flags_of() -> Callable[..., Any]:
    """Return a function that parses flags, such as `flags_of("--seed=3")`."""

    def parse(*arguments: str) -> Any:
        values = new_flags()
        values(["mandoo", *arguments])
        return values

    return parse


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command that must fail, and returns the last line of stderr.

    The first argument is the exit status: 2 for a usage error, 1 for input that cannot be used.
    """

    def run(status: int, *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            dual_main.main(list(arguments))
        assert ended.value.code == status
        lines = capsys.readouterr().err.splitlines()
        assert "Traceback" not in "".join(lines)
        assert status != 2 or len(lines) == 1
        return lines[-1]

    return run


@pytest.fixture(scope="session")
def write_trunk() -> Callable[..., Path]:
    """Return a function (path, end point) -> path that writes random weights of a small trunk."""

    def write(path: Path, endpoint: str = "resnet_v1_50/block1") -> Path:
        trunk = SlimTrunk(endpoint)
        trunk(tf.zeros([1, 32, 32, 3]))
        variables = {
            variable.name.removesuffix(":0"): variable.numpy() for variable in trunk.variables
        }
        write_checkpoint(path, variables)
        return path

    return write


@pytest.fixture(scope="session")
def make_place(
    tmp_path_factory: pytest.TempPathFactory,
    write_trunk: Callable[..., Path],
) -> Callable[[DrawConfig], Path]:
    """Return a function that fills a folder with products/ (a challenge tree) and trunk.ckpt."""

    def make(config: DrawConfig) -> Path:
        folder = tmp_path_factory.mktemp("place")
        draw_dataset(folder / "products", config, progress=False)
        write_trunk(folder / "trunk.ckpt")
        return folder

    return make


@pytest.fixture(scope="session")
def small_flags() -> Callable[[str], list[str]]:
    """Return a function verb -> flags of a tiny network and tiny local features that it accepts."""

    def flags_for(verb: str) -> list[str]:
        flags = [*TINY_NETWORK, *TINY_LOCAL_FEATURES]
        return [flag for flag in flags if flag[2:].partition("=")[0] in VERBS[verb].flags]

    return flags_for


@pytest.fixture(scope="session")
def run_verb(small_flags: Callable[[str], list[str]]) -> Callable[..., None]:
    """Return a function that runs a verb with products/ and trunk.ckpt of a place, and small sizes.

    A flag that is passed to the function replaces the same flag of these.
    """

    def run(place: Path, verb: str, *flags: str) -> None:
        inputs = [f"--pretrained_model={place}/trunk.ckpt"]
        if "data" in VERBS[verb].flags:
            inputs.append(f"--data={place}/products")
        dual_main.main([verb, *inputs, *small_flags(verb), *flags])

    return run
