"""Checkpoints, written beside the old one and renamed: a kill at any moment leaves a good one."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from polymodal.errors import DataError


def save_checkpoint(
    directory: Path, step: int, model: nn.Module, state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write the model's weights and the run's state as `directory/step-N`; drop older ones.

    `state` holds tensors, numbers, strings and containers of these: nothing that needs unpickling.
    """
    directory.mkdir(parents=True, exist_ok=True)
    final = directory / f"step-{step:09d}"
    if final.exists():
        return final
    partial = directory / f".writing-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_model(model, str(partial / "model.safetensors"))
    torch.save(dict(state), partial / "state.pt")
    for file in partial.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    os.replace(partial, final)
    for old in checkpoints(directory)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(directory: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first; half-written ones don't count."""
    return sorted(directory.glob("step-*"))


def load_checkpoint(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load the weights into the model and return the state.

    Raises:
        DataError: weights that do not fit the model.
    """
    try:
        load_model(model, str(path / "model.safetensors"))
    except RuntimeError as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
    state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
    return state
