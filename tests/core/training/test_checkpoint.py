"""Checkpoints whose files were damaged after they were written."""

import json

import pytest
import torch
from torch import nn

from polymodal import DataError
from polymodal.training.checkpoint import (
    checkpoints,
    damage,
    load_checkpoint,
    newest_whole,
    save_checkpoint,
    set_aside,
)


@pytest.fixture
def folder(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, nn.Linear(2, 2), {"a/b": torch.ones(2)}, {}, keep=2)
    return tmp_path


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "tensors.safetensors", "state.pt"])
def test_a_flipped_bit_is_found_and_the_checkpoint_before_it_taken(folder, name):
    older, newer = checkpoints(folder)
    flip(newer / name)
    found, told = newest_whole(folder)
    assert found == older
    (line,) = told
    assert newer.name in line and name in line and "checksum" in line


def test_a_truncated_or_missing_file_is_found(folder):
    older, newer = checkpoints(folder)
    content = (newer / "model.safetensors").read_bytes()
    (newer / "model.safetensors").write_bytes(content[:20])
    assert "checksum" in damage(newer)
    (newer / "model.safetensors").unlink()
    assert damage(newer) == "model.safetensors is missing"
    (older / "checksums-0.json").write_bytes(b"\xff{")
    with pytest.raises(DataError, match="step-000000002 is damaged.*No older one is whole"):
        newest_whole(folder)


def test_damaged_checkpoints_are_moved_aside_so_that_their_step_can_be_saved_again(folder):
    older, newer = checkpoints(folder)
    flip(newer / "state.pt")
    set_aside(folder, older)
    assert checkpoints(folder) == [older]
    save_checkpoint(folder, 2, nn.Linear(2, 2), {}, {"step": 2}, keep=2)
    assert damage(newer) is None and (folder / f"damaged-{newer.name}").is_dir()


def test_a_damaged_checkpoint_without_checksums_is_one_line(folder):
    _, newer = checkpoints(folder)
    (newer / "checksums-0.json").unlink()  # written before there were any
    assert damage(newer) is None
    (newer / "state.pt").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"step-000000002 can't be read: ") as caught:
        load_checkpoint(newer, nn.Linear(2, 2))
    assert "\n" not in str(caught.value)


def test_every_file_has_a_checksum(folder):
    newer = checkpoints(folder)[-1]
    known = json.loads((newer / "checksums-0.json").read_text())
    written = {path.name for path in newer.iterdir()} - {"checksums-0.json"}
    assert set(known) == written == {"model.safetensors", "tensors.safetensors", "state.pt"}


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polymodal.training.checkpoint.save_model", full)
    with pytest.raises(DataError, match="can't be written: No space left on device"):
        save_checkpoint(folder, 3, nn.Linear(2, 2), {}, {}, keep=1)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert len(checkpoints(folder)) == 2
