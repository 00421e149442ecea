"""Test which data a verb reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.verbs import data as verbs_data


def test_data_are_looked_for_in_flag_platform_and_debug_folder_then_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags_of
) -> None:
    def drawn(out: Path | None, classes: int, seed: int) -> Path:
        return tmp_path / f"drawn-{classes}"

    monkeypatch.setattr(verbs_data, "draw_products", drawn)
    monkeypatch.setenv("DATASET_PATH", "/data/ir_ph1_v2")
    resolve = verbs_data.resolve_data
    assert resolve(flags_of("--data=mine")) == ("mine", "")
    assert resolve(flags_of("--debug")) == ("/data/ir_ph1_v2", "NSML's DATASET_PATH")
    monkeypatch.delenv("DATASET_PATH")
    debug_data = f"--debug_data={tmp_path}"
    assert resolve(flags_of("--debug", debug_data)) == (str(tmp_path), "--debug_data")
    origin = "drawn products; pass --data for your own"
    path = str(tmp_path / "drawn-40")
    assert resolve(flags_of("--debug", "--debug_data=nowhere")) == (path, origin)
    assert resolve(flags_of(debug_data)) == (str(tmp_path / "drawn-100"), origin)


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_first_line_says_how_the_data_were_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags_of
) -> None:
    data = folders(tmp_path / "d", "a/1.jpg", "b/1.jpg", "b/2.jpg", "loose.jpg")
    verbs_data.load(flags_of(f"--data={data}"))
    assert capsys.readouterr().out.splitlines() == [
        "data: folder per class: 2 classes, 3 images",
        "1 photograph beside the class folders: no class",
    ]
    verbs_data.load_from(verbs_data.Source(str(data), "--debug_data"), flags_of())
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"data: folder per class: 2 classes, 3 images, {data} (--debug_data)"
    images = verbs_data.load_images(flags_of(f"--data={data}"))
    assert len(images) == 4
    assert capsys.readouterr().out == "data: photographs without labels: 4 images\n"


def test_data_layout_chooses_between_two_ways(tmp_path: Path, flags_of) -> None:
    data = folders(tmp_path / "d", "a/x/1.jpg", "a/y/1.jpg", "b/x/1.jpg", "b/y/1.jpg")
    with pytest.raises(ValueError, match="--data_layout=top_folders"):
        verbs_data.load(flags_of(f"--data={data}"))
    chosen = verbs_data.load(flags_of(f"--data={data}", "--data_layout=top_folders"))
    assert chosen.class_names == ("a", "b")
    # A run stores how its data were read; the flag goes before it.
    source = verbs_data.Source(str(data))
    assert verbs_data.load_from(source, flags_of(), "top_folders").class_names == ("a", "b")
    flags = flags_of("--data_layout=class_folders")
    assert len(verbs_data.load_from(source, flags, "top_folders").class_names) == 4


def test_load_reads_the_data_that_the_flag_names(tmp_path: Path, flags_of) -> None:
    drawn = draw_dataset(tmp_path / "products", DrawConfig(2, 4, 1, 2, 32), progress=False)
    data = verbs_data.load(flags_of(f"--data={drawn}"))
    assert (data.name, len(data.train), len(data.query)) == ("products", 4, 1)
    with pytest.raises(ValueError, match="nothing: not found"):
        verbs_data.load(flags_of(f"--data={tmp_path}/nothing"))
