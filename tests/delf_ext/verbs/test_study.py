"""Test `study`: what it refuses, and one real ranking of a tiny trunk."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dual_main
from data_io.synthetic.dataset import DrawConfig
from delf_ext.config import UsageError
from delf_ext.features.speed import images_per_second
from delf_ext.verbs import study
from delf_ext.verbs.study import paths_of, sizes_of, sources_of

DRAWN = DrawConfig(num_classes=3, num_train=12, num_queries=3, num_gallery=6, image_size_px=48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=x"], "study ranks trunks on your images: pass --trunks and --data."),
        (["--trunks"], "study ranks trunks on your images: pass --trunks and --data."),
        (
            ["--trunks", "--data=x", "--poolings=foo"],
            "--poolings takes avg, max, gem, rmac or attention.",
        ),
        (["--trunks", "--data=x", "--image_sizes=8"], "--image_sizes.0 must be at least 32"),
        (["--trunks", "--data=x", "--image_sizes=64.5"], "--image_sizes takes whole numbers"),
        (["--trunks", "--data=x", "--layout=slim"], "--layout describes a checkpoint: pass"),
        (["--trunks", "--data=x", "--run_dir=r"], "study does not use --run_dir"),
    ],
)
def test_wrong_flag_is_refused_before_data_are_read(
    refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert refused(2, "study", *arguments).startswith(f"usage error: {message}")


def test_missing_checkpoint_is_refused(
    refused: Callable[..., str], make_place: Callable[[DrawConfig], Path]
) -> None:
    place = make_place(DRAWN)
    data = f"--data={place}/products"
    line = refused(1, "study", "--trunks", data, f"--pretrained_model={place}/none.ckpt")
    assert "none.ckpt: no such checkpoint" in line


def test_sizes_and_sources_of_flags(flags_of: Callable[..., Any], tmp_path: Path) -> None:
    assert sizes_of(["224", "320"]) == [224, 320]
    with pytest.raises(UsageError, match="whole numbers of pixels. Received 64.5"):
        sizes_of(["64.5"])
    sources = sources_of(flags_of("--pretrained_model=a.ckpt,lite2,b.ckpt", "--layout=v1.5"))
    assert [source.path for source in sources] == ["a.ckpt", "b.ckpt", "lite0", "lite1", "lite2"]
    assert [source.trunk.layout for source in sources[:2]] == ["v1.5", "v1.5"]
    assert sources[-1].trunk.name == "efficientnet_lite2"
    with_comma = tmp_path / "a,b.ckpt"
    with_comma.touch()
    assert paths_of(str(with_comma)) == [str(with_comma)]
    assert paths_of(None) == []


def test_tiny_trunk_is_ranked_and_the_command_uses_it(
    make_place: Callable[[DrawConfig], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(study, "LITE", {})
    at_once = partial(images_per_second, min_seconds=0)
    monkeypatch.setattr("delf_ext.app.study_measurement.images_per_second", at_once)
    place = make_place(DRAWN)
    data = f"--data={place}/products"
    trunk = [f"--pretrained_model={place}/trunk.ckpt", "--resnet_type=resnet_v1_50/block1"]
    trunk += ["--layout=slim", "--mixed_precision=off"]
    outputs = [f"--out={tmp_path}/out", f"--json={tmp_path}/study.json"]
    dual_main.main(["study", "--trunks", data, *trunk, "--image_sizes=32", *outputs])
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads((tmp_path / "study.json").read_text())
    assert sorted(row["pooling"] for row in figures["rows"]) == ["avg", "gem", "rmac"]
    assert figures["conclusion"] in "\n".join(lines)
    assert "12 queries scored in 12 images; no training." in lines
    command = shlex.split(lines[-1])
    assert command[:2] == ["mandoo", "search"]
    photo = next((place / "products").rglob("*.jpg"))
    command[command.index("--image=PHOTO.jpg")] = f"--image={photo}"
    command[command.index(data)] = f"{data}/train/train_data"
    # The embeddings of the study are those of the search.
    dual_main.main(command[1:])
    assert "are stored in" in capsys.readouterr().out
