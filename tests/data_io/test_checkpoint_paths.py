"""Find the checkpoint that a path means; the files here have only the first bytes of an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.checkpoint_paths import find_checkpoint, require_checkpoint
from data_io.weight_kinds import TABLE_END


def write(prefix: Path, shards: int = 1, leave_out: tuple[int, ...] = ()) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 6, 8, shards, 0x1A, 2, 8, 1])
    Path(f"{prefix}.index").write_bytes(header + TABLE_END)
    for number in set(range(shards)) - set(leave_out):
        Path(f"{prefix}.data-{number:05}-of-{shards:05}").write_bytes(b"data")


def found(path: Path) -> tuple[Path, str]:
    lines: list[str] = []
    checkpoint = find_checkpoint(path, lines.append)
    assert len(lines) <= 1
    return checkpoint, "".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a training folder of tf.train.Saver with two checkpoints."""
    write(tmp_path / "model.ckpt-900")
    write(tmp_path / "model.ckpt-1000")
    (tmp_path / "model.ckpt-1000.meta").write_bytes(b"\x0a\x00graph")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-900"\n')
    return tmp_path


@pytest.mark.parametrize("ending", ["", ".index"])
def test_the_prefix_itself_needs_no_words(folder: Path, ending: str):
    assert found(folder / f"model.ckpt-1000{ending}") == (folder / "model.ckpt-1000", "")


@pytest.mark.parametrize("ending", [".meta", ".data-00000-of-00001"])
def test_a_file_of_a_checkpoint_means_the_checkpoint(folder: Path, ending: str):
    path = folder / f"model.ckpt-1000{ending}"
    checkpoint = folder / "model.ckpt-1000"
    line = f"{path}: is one file of a checkpoint; the weights are those of {checkpoint}"
    assert found(path) == (checkpoint, line)


@pytest.mark.parametrize("name", ["", "checkpoint"])
def test_folder_and_state_file_mean_the_checkpoint_that_is_named(folder: Path, name: str):
    checkpoint, line = found(folder / name)
    assert checkpoint == folder / "model.ckpt-900"
    assert "its state file names model.ckpt-900; the weights are those of " in line


@pytest.mark.parametrize("stored", ["/home/me/train/model.ckpt-900", "C:\\\\t\\\\model.ckpt-900"])
def test_state_file_of_another_machine_is_followed_by_name(folder: Path, stored: str):
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{stored}"\n')
    assert found(folder)[0] == folder / "model.ckpt-900"


def test_state_file_may_name_another_folder(folder: Path):
    write(folder / "best" / "net-7")
    (folder / "checkpoint").write_text('model_checkpoint_path: "best/net-7"\n')
    assert found(folder)[0] == folder / "best" / "net-7"


def test_without_state_file_the_newest_is_taken_and_named(folder: Path):
    (folder / "checkpoint").unlink()
    checkpoint, line = found(folder)
    assert checkpoint == folder / "model.ckpt-1000"
    assert "model.ckpt-1000 is the newest of 2 checkpoints; the weights" in line
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    assert "(model.ckpt-5, which its state file names, is missing)" in found(folder)[1]


def test_several_checkpoints_of_other_names_are_listed(tmp_path: Path):
    write(tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(b"V1" + TABLE_END)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: this folder holds no checkpoint. `python -m"):
        find_checkpoint(tmp_path / "none", print)
    message = "holds several checkpoints; pass one of them. In that folder: a.ckpt, b.ckpt."
    with pytest.raises(ValueError, match=message):
        find_checkpoint(tmp_path, print)
    (tmp_path / "a.ckpt.index").unlink()
    assert found(tmp_path)[0] == tmp_path / "b.ckpt"


def test_run_directory_is_answered_with_its_flag(tmp_path: Path):
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(
        ValueError, match="is a run directory. Pass it with --run_dir; .*--from_run"
    ):
        find_checkpoint(tmp_path, print)


def test_saved_model_means_its_variables(tmp_path: Path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="is a SavedModel without its folder `variables`"):
        find_checkpoint(tmp_path, print)
    write(tmp_path / "variables" / "variables")
    assert found(tmp_path)[0] == tmp_path / "variables" / "variables"


def test_missing_parts_are_named(tmp_path: Path):
    write(tmp_path / "m", shards=3, leave_out=(0, 2))
    with pytest.raises(ValueError) as caught:
        require_checkpoint(tmp_path / "m")
    assert str(caught.value) == (
        f"{tmp_path}/m: a part of the checkpoint is missing: m.data-00000-of-00003, "
        "m.data-00002-of-00003. Copy all files m.* into one folder."
    )
    write(tmp_path / "old")
    (tmp_path / "old.index").rename(tmp_path / "new.index")
    with pytest.raises(ValueError, match=r"new\.data-00000-of-00001.* If .* give both files the"):
        require_checkpoint(tmp_path / "new")
    with pytest.raises(ValueError, match=r"old\.index is missing beside old\.data-00000-of-00001"):
        require_checkpoint(tmp_path / "old")


def test_other_file_is_answered_with_what_to_do(tmp_path: Path):
    path = tmp_path / "resnet_v1_50.ckpt"
    path.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError) as caught:
        find_checkpoint(path, print)
    assert str(caught.value) == (
        f"{path}: is a pointer of Git LFS, not the weights. Run `git lfs pull` in its clone."
    )
    with pytest.raises(ValueError, match="There is no folder"):
        find_checkpoint(tmp_path / "absent" / "a.ckpt", print)
