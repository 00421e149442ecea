"""Check checkpoints of a run, whose network is two numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from data_io.files.artifacts import read_json
from delf_ext.models.embedding_model import Parameter
from delf_ext.recipes.schema import Adam, RateFactor, Stage
from delf_ext.training.finite import NotFinite
from delf_ext.training.optimizers import Group, build_groups
from delf_ext.training.state import RunState

DATA = ".data-00000-of-00001"


class Run:
    """Two weights, each with its own optimizer, and their state."""

    def __init__(self, folder: Path, select_by: str = "mAP") -> None:
        self.weights = {"trunk/w": tf.Variable(1.0), "head/w": tf.Variable(2.0)}
        parameters = [
            Parameter(name, name.split("/")[0], weight) for name, weight in self.weights.items()
        ]
        config = Adam(factors=(RateFactor("head", 10),))
        self.groups: list[Group] = build_groups(config, (Stage(1),), 10, parameters)
        self.lines: list[str] = []
        self.state = RunState(self.weights, self.groups, folder, select_by, self.lines.append)

    def train_to(self, step: int) -> Run:
        """Train and save one step after the other."""
        for number in range(int(self.state.step) + 1, step + 1):
            for group in self.groups:
                variables = [parameter.variable for parameter in group.parameters]
                gradients = [(tf.constant(1.0), variable) for variable in variables]
                group.optimizer.apply_gradients(gradients)
            self.state.save(number)
        return self

    @property
    def values(self) -> list[float]:
        return [float(weight) for weight in self.weights.values()]


def test_restore_without_checkpoints_returns_step_0(tmp_path: Path):
    run = Run(tmp_path / "checkpoint")
    assert run.state.restore() == 0
    assert run.state.best is None
    assert run.lines == []


def test_restore_reads_weights_optimizers_and_step(tmp_path: Path):
    whole = Run(tmp_path / "whole").train_to(5)
    cut = Run(tmp_path / "cut").train_to(3)
    resumed = Run(tmp_path / "cut")
    assert resumed.state.restore() == 3
    assert resumed.values == cut.values
    assert [int(group.optimizer.iterations) for group in resumed.groups] == [3, 3]
    assert resumed.train_to(5).values == whole.values


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path):
    Run(tmp_path).train_to(4)
    names = sorted(path.name for path in tmp_path.iterdir())
    files = [f"last-{step}{suffix}" for step in (3, 4) for suffix in (DATA, ".index")]
    assert names == sorted([*files, "last.json"])
    assert read_json(tmp_path / "last.json")["checkpoints"] == [3, 4]


def test_restore_reads_the_checkpoint_before_a_damaged_one(tmp_path: Path):
    run = Run(tmp_path).train_to(1)
    before = run.values
    run.train_to(2)
    newest = tmp_path / f"last-2{DATA}"
    newest.write_bytes(newest.read_bytes()[:10])
    resumed = Run(tmp_path)
    assert resumed.state.restore() == 1
    assert resumed.values == before
    (line,) = resumed.lines
    assert line.startswith(f"{tmp_path}/last-2: cannot be read (")
    assert line.endswith("); trying the one before.")


def test_restore_refuses_a_run_whose_checkpoints_are_all_damaged(tmp_path: Path):
    Run(tmp_path).train_to(2)
    for data in tmp_path.glob(f"*{DATA}"):
        data.write_bytes(b"")
    message = rf"^{tmp_path}/last-2: cannot be read \(.*delete {tmp_path.parent} to train from"
    with pytest.raises(ValueError, match=message):
        Run(tmp_path).state.restore()
    Run(tmp_path).state.save_if_best(2, 0.5)
    with pytest.raises(ValueError, match=rf"--from_run={tmp_path.parent}\.$"):
        Run(tmp_path).state.restore()


def test_whole_checkpoint_of_another_network_is_not_to_be_deleted(tmp_path: Path):
    Run(tmp_path).train_to(1)
    other = Run(tmp_path)
    other.weights["head/w"] = tf.Variable([1.0, 2.0])
    state = RunState(other.weights, other.groups, tmp_path, "mAP", print)
    with pytest.raises(ValueError, match=r"Its files are whole: .* Do not delete the folder\.$"):
        state.restore()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_never_saved(tmp_path: Path, bad: float):
    run = Run(tmp_path).train_to(2)
    good = run.values
    run.weights["trunk/w"].assign(bad)
    message = (
        rf"^training stopped at step 3: trunk/w is not finite any more\. The last good checkpoint, "
        rf"{tmp_path}/last-2, is kept\. Likely remedies: .*--from_run={tmp_path.parent} "
    )
    with pytest.raises(NotFinite, match=message):
        run.state.save(3)
    with pytest.raises(NotFinite, match=message):
        run.state.require_finite(3)
    resumed = Run(tmp_path)
    assert resumed.state.restore() == 2 and resumed.values == good


def test_full_disk_keeps_the_checkpoints_and_leaves_no_half(tmp_path: Path, monkeypatch):
    run = Run(tmp_path).train_to(2)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(prefix: str) -> None:
        Path(f"{prefix}.data-00000-of-00001.tempstate1").write_text("half")
        raise tf.errors.ResourceExhaustedError(None, None, "x; No space left on device")

    monkeypatch.setattr(run.state._everything, "write", full)
    message = (
        rf"^{tmp_path}/last-3: cannot be written \(No space left on device\)\. The last good "
        rf"checkpoint, {tmp_path}/last-2, is kept\. Make room for the next one and continue with "
        r"--resume\.$"
    )
    with pytest.raises(OSError, match=message):
        run.state.save(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    monkeypatch.undo()
    run.state.save(3)
    assert Run(tmp_path).state.restore() == 3


@pytest.mark.parametrize(
    ("select_by", "values", "kept"),
    [
        ("mAP", [0.2, 0.9, 0.4, 0.9], [True, True, False, False]),
        ("recall_at_1", [0.0, 0.0, 0.1], [True, False, True]),
        ("mean_last_rank", [50.0, 70.0, 20.0, 20.0, 19.0], [True, False, True, False, True]),
    ],
)
def test_best_weights_have_the_highest_metric_or_the_lowest_rank(
    tmp_path: Path, select_by: str, values: list[float], kept: list[bool]
):
    """An equal metric is not better."""
    run = Run(tmp_path, select_by)
    assert [run.state.save_if_best(step, value) for step, value in enumerate(values, 1)] == kept
    best = min(values) if select_by == "mean_last_rank" else max(values)
    assert run.state.best == best
    number = values.index(best) + 1
    assert [path.name for path in tmp_path.glob("best-*.index")] == [f"best-{number}.index"]
    note = read_json(tmp_path / "best.json")
    assert note == {"checkpoints": [number], "facts": {select_by: best}}


def test_nan_is_not_better(tmp_path: Path):
    for select_by in ("mAP", "mean_last_rank"):
        run = Run(tmp_path / select_by, select_by)
        assert run.state.save_if_best(1, 0.5)
        assert not run.state.save_if_best(2, float("nan"))
        assert run.state.best == 0.5


def test_step_is_saved_only_once(tmp_path: Path):
    run = Run(tmp_path).train_to(2)
    before = (tmp_path / "last-2.index").stat().st_mtime_ns
    run.state.save(2)
    assert (tmp_path / "last-2.index").stat().st_mtime_ns == before


def test_best_metric_is_read_from_disk(tmp_path: Path):
    Run(tmp_path).state.save_if_best(3, 0.5)
    again = Run(tmp_path)
    assert again.state.best == 0.5
    assert not again.state.save_if_best(4, 0.4)


def test_best_checkpoint_holds_only_weights(tmp_path: Path):
    run = Run(tmp_path).train_to(1)
    run.state.save_if_best(1, 0.5)
    names = tf.train.load_checkpoint(str(tmp_path / "best-1")).get_variable_to_shape_map()
    assert len([name for name in names if name.startswith("weights/")]) == 2
    assert not any("optimizer" in name for name in names)
