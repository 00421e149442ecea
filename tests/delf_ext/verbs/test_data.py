"""Test which data a verb reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.verbs import data as verbs_data


def test_data_are_looked_for_in_flag_platform_and_debug_folder_then_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags_of
) -> None:
    def drawn(out: Path | None, classes: int, seed: int) -> Path:
        return tmp_path / f"drawn-{classes}"

    monkeypatch.setattr(verbs_data, "draw_products", drawn)
    monkeypatch.setenv("DATASET_PATH", "/data/ir_ph1_v2")
    assert verbs_data.resolve_data(flags_of("--data=mine")) == "mine"
    assert capsys.readouterr().out == ""
    assert verbs_data.resolve_data(flags_of("--debug")) == "/data/ir_ph1_v2"
    assert capsys.readouterr().out == "data: /data/ir_ph1_v2 (NSML's DATASET_PATH)\n"
    monkeypatch.delenv("DATASET_PATH")
    assert verbs_data.resolve_data(flags_of("--debug", f"--debug_data={tmp_path}")) == str(tmp_path)
    assert capsys.readouterr().out == f"data: {tmp_path} (--debug_data)\n"
    path = verbs_data.resolve_data(flags_of("--debug", "--debug_data=nowhere"))
    assert path == str(tmp_path / "drawn-40")
    assert verbs_data.resolve_data(flags_of(f"--debug_data={tmp_path}")) == str(
        tmp_path / "drawn-100",
    )
    line = f"data: {tmp_path}/drawn-100 (drawn products; pass --data for your own)"
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_load_reads_the_data_that_the_flag_names(tmp_path: Path, flags_of) -> None:
    drawn = draw_dataset(tmp_path / "products", DrawConfig(2, 4, 1, 2, 32), progress=False)
    data = verbs_data.load(flags_of(f"--data={drawn}"))
    assert (data.name, len(data.train), len(data.query)) == ("products", 4, 1)
    with pytest.raises(ValueError, match="nothing: not found"):
        verbs_data.load(flags_of(f"--data={tmp_path}/nothing"))
