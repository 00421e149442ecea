from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.nsml import curves
from delf_ext.nsml.curves import Curves, last_summary

NAMES = st.text(st.characters(exclude_characters="_", exclude_categories=["Cs"]), max_size=10)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text()
)


def records_of(folder: Path) -> list[dict]:
    """Return the reports of a session, oldest first."""
    path = folder / "report.jsonl"
    return list(map(json.loads, path.read_bytes().splitlines())) if path.exists() else []


def test_reports_are_stored_as_lines_of_json(tmp_path: Path) -> None:
    reports = Curves(tmp_path)
    reports.add({"epoch": 1, "epoch_total": 2, "train__loss": 0.5, "note": "first"}, True)
    reports.add({"step": 7, "lr": 0.1}, False)
    first, second = records_of(tmp_path)
    assert first["summary"] and not second["summary"] and first["time"] <= second["time"]
    assert first["values"] == {"epoch": 1, "epoch_total": 2, "train/loss": 0.5, "note": "first"}
    assert last_summary(tmp_path) == first["values"]


def test_folder_without_reports_has_no_values(tmp_path: Path) -> None:
    assert last_summary(tmp_path) == {}


def test_numbers_of_numpy_and_tensors_become_python_numbers(tmp_path: Path) -> None:
    class Tensor:
        def __float__(self) -> float:
            return 0.25

    Curves(tmp_path).add(
        {"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.0), "d": Tensor(), "e": math.nan},
        False,
    )
    (record,) = records_of(tmp_path)
    values = record["values"]
    assert math.isnan(values.pop("e")) and values == {"a": 0.5, "b": 3, "c": 2.0, "d": 0.25}
    assert isinstance(values["b"], int)


@pytest.mark.parametrize("value", [np.zeros(2), object(), {1, 2}, b"text", print])
def test_add_refuses_values_that_are_neither_text_nor_numbers(
    tmp_path: Path, value: object
) -> None:
    with pytest.raises(
        TypeError,
        match=rf"^nsml.report: loss must be text or a number. Received {type(value).__name__}.$",
    ):
        Curves(tmp_path).add({"epoch": 1, "loss": value}, True)
    assert records_of(tmp_path) == []


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=3), st.integers(1, 60))
def test_half_written_last_line_is_ignored(
    tmp_path_factory, reported: list[dict], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("session")
    for values in reported:
        Curves(folder).add(values, True)
    assert [record["values"] for record in records_of(folder)] == reported
    newest = reported[-1] if reported else {}
    lines = folder / "report.jsonl"
    with open(lines, "ab") as file:
        file.write(b'{"time": 1.5, "summary": true, "values": {"a": "\xc3\xa4", "bcdef": 1}}'[:cut])
    assert last_summary(folder) == newest
    Curves(folder).add({"step": 1}, False)
    assert last_summary(folder) == newest
    Curves(folder).add({"resumed": 1}, True)
    assert last_summary(folder) == {"resumed": 1}
    assert len(lines.read_bytes().splitlines()) == len(reported) + 3


def test_tensorboard_reads_the_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    reports = Curves(tmp_path)
    reports.add({"epoch": 3, "loss": 0.5, "note": "text"}, True)
    reports.add({"step": np.int64(40), "epoch": 4, "train__loss": np.float32(0.25)}, False)
    reports.add({"loss": 1, "step": math.nan}, False)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    head, *events = EventFileLoader(str(path)).Load()
    assert head.file_version == "brain.Event:2"
    read = [
        (event.step, {value.tag: value.tensor.float_val[0] for value in event.summary.value})
        for event in events
    ]
    assert read == [
        (3, {"epoch": 3, "loss": 0.5}),
        (40, {"epoch": 4, "train/loss": 0.25}),
        (2, {"loss": 1}),
    ]


def test_reporting_does_not_import_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from delf_ext.nsml.curves import Curves;"
        f"Curves(Path({str(tmp_path)!r})).add({{'loss': 1}}, True);"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_report_that_does_not_fit_on_the_disk_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        """File on a disk with space for 10 more bytes."""

        def __init__(self, file) -> None:
            self.file = file
            self.truncate = file.truncate
            self.tell = file.tell
            self.num_free = 10

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            if not self.num_free:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(data[: self.num_free])
            self.num_free = 0
            return written

    reports = Curves(tmp_path)
    reports.add({"epoch": 1}, True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def open_full(*args, **options):
        return FullDisk(open(*args, **options))

    monkeypatch.setattr(curves, "open", open_full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        reports.add({"epoch": 2}, True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
