"""What a run keeps on disk, with two numbers for a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from data_io.artifacts import read_json
from delf_ext.models.embedding_model import Parameter
from delf_ext.recipes.schema import Adam, RateFactor, Stage
from delf_ext.training.optimizers import Group, build_groups
from delf_ext.training.state import RunState

DATA = ".data-00000-of-00001"


class Run:
    """Two weights, each with an optimizer of its own, and their state."""

    def __init__(self, folder: Path, select_by: str = "mAP") -> None:
        self.weights = {"trunk/w": tf.Variable(1.0), "head/w": tf.Variable(2.0)}
        parameters = [Parameter(name, name[:-2], one) for name, one in self.weights.items()]
        config = Adam(factors=(RateFactor("head", 10),))
        self.groups: list[Group] = build_groups(config, (Stage(1),), 10, parameters)
        self.lines: list[str] = []
        self.state = RunState(self.weights, self.groups, folder, select_by, self.lines.append)

    def train_to(self, step: int) -> Run:
        """One step after the other, each saved."""
        for now in range(int(self.state.step) + 1, step + 1):
            for group in self.groups:
                variables = [one.variable for one in group.parameters]
                group.optimizer.apply_gradients([(tf.constant(1.0), one) for one in variables])
            self.state.save(now)
        return self

    @property
    def values(self) -> list[float]:
        return [float(weight) for weight in self.weights.values()]


def test_nothing_saved_is_step_0(tmp_path: Path):
    run = Run(tmp_path / "checkpoint")
    assert run.state.restore() == 0 and run.state.best is None and run.lines == []


def test_weights_optimizers_and_step_come_back(tmp_path: Path):
    whole, cut = Run(tmp_path / "whole").train_to(5), Run(tmp_path / "cut").train_to(3)
    resumed = Run(tmp_path / "cut")
    assert resumed.state.restore() == 3 and resumed.values == cut.values
    assert [int(group.optimizer.iterations) for group in resumed.groups] == [3, 3]
    assert resumed.train_to(5).values == whole.values


def test_the_two_newest_states_are_kept(tmp_path: Path):
    Run(tmp_path).train_to(4)
    names = sorted(path.name for path in tmp_path.iterdir())
    parts = [f"last-{step}{end}" for step in (3, 4) for end in (DATA, ".index")]
    assert names == sorted([*parts, "last.json"])
    assert read_json(tmp_path / "last.json")["checkpoints"] == [3, 4]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path):
    run = Run(tmp_path).train_to(1)
    before = run.values
    run.train_to(2)
    newest = tmp_path / f"last-2{DATA}"
    newest.write_bytes(newest.read_bytes()[:10])
    resumed = Run(tmp_path)
    assert resumed.state.restore() == 1 and resumed.values == before
    (line,) = resumed.lines
    assert line.startswith(f"{tmp_path}/last-2: not readable (")
    assert line.endswith("); trying the one before.")


def test_a_run_without_a_readable_checkpoint_is_refused(tmp_path: Path):
    Run(tmp_path).train_to(2)
    for data in tmp_path.glob(f"*{DATA}"):
        data.write_bytes(b"")
    message = rf"^{tmp_path}: none of its checkpoints can be read; delete the folder to train"
    with pytest.raises(ValueError, match=message):
        Run(tmp_path).state.restore()


@pytest.mark.parametrize(
    ("select_by", "values", "kept"),
    [
        ("mAP", [0.2, 0.9, 0.4, 0.9], [True, True, False, False]),
        ("recall_at_1", [0.0, 0.0, 0.1], [True, False, True]),
        ("mean_last_rank", [50.0, 70.0, 20.0, 20.0, 19.0], [True, False, True, False, True]),
    ],
)
def test_the_best_weights_are_those_of_the_highest_figure_or_the_lowest_rank(
    tmp_path: Path, select_by: str, values: list[float], kept: list[bool]
):
    """A figure that is equal is not better."""
    run = Run(tmp_path, select_by)
    assert [run.state.save_if_best(step, value) for step, value in enumerate(values, 1)] == kept
    best = min(values) if select_by == "mean_last_rank" else max(values)
    assert run.state.best == best
    number = values.index(best) + 1
    assert [path.name for path in tmp_path.glob("best-*.index")] == [f"best-{number}.index"]
    note = read_json(tmp_path / "best.json")
    assert note == {"checkpoints": [number], "facts": {select_by: best}}


def test_a_figure_that_is_no_number_is_never_better(tmp_path: Path):
    for select_by in ("mAP", "mean_last_rank"):
        run = Run(tmp_path / select_by, select_by)
        assert run.state.save_if_best(1, 0.5) and not run.state.save_if_best(2, float("nan"))
        assert run.state.best == 0.5


def test_a_step_is_saved_once(tmp_path: Path):
    run = Run(tmp_path).train_to(2)
    before = (tmp_path / "last-2.index").stat().st_mtime_ns
    run.state.save(2)
    assert (tmp_path / "last-2.index").stat().st_mtime_ns == before


def test_the_best_figure_is_known_after_a_kill(tmp_path: Path):
    Run(tmp_path).state.save_if_best(3, 0.5)
    again = Run(tmp_path)
    assert again.state.best == 0.5 and not again.state.save_if_best(4, 0.4)


def test_the_best_checkpoint_holds_weights_alone(tmp_path: Path):
    run = Run(tmp_path).train_to(1)
    run.state.save_if_best(1, 0.5)
    names = tf.train.load_checkpoint(str(tmp_path / "best-1")).get_variable_to_shape_map()
    assert len([name for name in names if name.startswith("weights/")]) == 2
    assert not any("optimizer" in name for name in names)
