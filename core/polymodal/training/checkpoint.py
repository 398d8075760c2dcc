"""Checkpoints, written beside the old one and renamed: a kill at any moment leaves a good one.

    step-000000100/
        checksums-0.json       of each file below, a file for each rank that wrote some
        state.pt               numbers: the step, the position in the data
        model.safetensors      }  a model that is whole on each rank
        tensors.safetensors    }  the optimiser's averages and the like, by parameter
        shards/                or both of a sharded one, by torch.distributed.checkpoint

Either kind loads at any number of ranks, sharded or not.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from polymodal.ground.distributed import (
    any_over_ranks,
    communication_device,
    is_shard,
    placed,
    rank,
    world_size,
)
from polymodal.ground.durable import beside, checksum, put_in_place, writing
from polymodal.ground.errors import DataError
from polymodal.training.parallel import barrier

_MODEL = "model/"


def save_checkpoint(
    directory: Path,
    step: int,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write the model's weights and the run's state as `directory/step-N`; drop older ones.

    Called by all ranks. Nothing written needs unpickling.

    Args:
        directory: of the run's checkpoints.
        step: optimisation steps done.
        model: whole, or sharded.
        tensors: further state by name; sharded where the model is.
        state: numbers, strings and containers of these.
        keep: how many checkpoints to leave.
    """
    final = directory / f"step-{step:09d}"
    if final.exists():
        return final
    partial = beside(final)
    with writing(final):
        if rank() == 0:
            directory.mkdir(parents=True, exist_ok=True)
            for kind in ("writing", "removing"):  # left by a kill
                for left in directory.glob(f".{kind}-*"):
                    shutil.rmtree(left)
            partial.mkdir()
        barrier()
        if any(map(is_shard, model.parameters())):
            from torch.distributed.checkpoint.state_dict_saver import save

            weights = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
            save({**weights, **tensors}, checkpoint_id=partial / "shards")
        elif rank() == 0:
            save_model(model, str(partial / "model.safetensors"))
            whole = {n: t.contiguous() for n, t in tensors.items()}
            save_file(whole, partial / "tensors.safetensors")
        if rank() == 0:
            torch.save(dict(state), partial / "state.pt")
        barrier()
        _write_checksums(partial)
        barrier()
        if rank() == 0:
            put_in_place(final)
            for old in checkpoints(directory)[:-keep]:
                shutil.rmtree(old.rename(old.with_name(f".removing-{old.name}")))
    barrier()
    return final


def _write_checksums(folder: Path) -> None:
    """Write the checksums of what this rank wrote: its own shards, and of rank 0 the rest."""
    mine = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.startswith("checksums-")
        # torch.distributed.checkpoint names shards "__<rank>_<number>.distcp".
        and (path.name.split("_")[2] if path.suffix == ".distcp" else "0") == str(rank())
    ]
    if mine:
        found = {path.relative_to(folder).as_posix(): checksum(path) for path in mine}
        (folder / f"checksums-{rank()}.json").write_text(json.dumps(found, indent=2) + "\n")


def checkpoints(directory: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first; half-written ones don't count."""
    return sorted(directory.glob("step-*"))


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None; the same on every rank.

    Each rank reads a part of them. One written before there were checksums is only found damaged
    when it is loaded.
    """
    wanted: dict[str, str] = {}
    reason = ""
    try:
        for file in sorted(path.glob("checksums-*.json")):
            wanted |= json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = f"{file.name}: {error}"
    for number, (name, known) in enumerate(sorted(wanted.items())):
        if not reason and number % world_size() == rank():
            file = path / name
            if not file.is_file():
                reason = f"{name} is missing"
            elif checksum(file) != known:
                reason = f"{name} is not what was written (its checksum differs)"
    (found,) = any_over_ranks([bool(reason)], communication_device())
    return (reason or "another rank found it damaged") if found else None


def newest_whole(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint, and a sentence for each damaged one that is newer.

    Raises:
        DataError: there are checkpoints, and all are damaged.
    """
    told: list[str] = []
    for path in reversed(checkpoints(directory)):
        reason = damage(path)
        if reason is None:
            return path, told
        told.append(f"{path} is damaged: {reason}")
    if told:
        raise DataError(f"{told[0]}. No older one is whole; remove {directory} to begin again")
    return None, told


def set_aside(directory: Path, path: Path) -> None:
    """Move the checkpoints newer than this one aside: their steps will be made again."""
    if rank() == 0:
        for newer in checkpoints(directory):
            if newer > path:
                aside = newer.with_name(f"damaged-{newer.name}")
                if aside.exists():
                    shutil.rmtree(aside)
                newer.rename(aside)
    barrier()


def load_checkpoint(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the weights into the model; return the other tensors and the state.

    A tensor whose name ends in "/<parameter>/<anything>" is placed as that parameter is.

    Raises:
        DataError: weights that do not fit the model, or files that can't be read.
    """
    shards = path / "shards"
    try:
        found = _read_shards(shards, model) if shards.is_dir() else _read_whole(path)
        state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
    except Exception as error:  # of safetensors, zip, pickle, torch
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{path} can't be read: {why}") from error
    own = model.state_dict(keep_vars=True)
    weights = {n.removeprefix(_MODEL): t for n, t in found.items() if n.startswith(_MODEL)}
    # Of tied weights safetensors keeps one.
    given = {id(own[name]) for name in weights if name in own}
    missing = [
        name for name, value in own.items() if name not in weights and id(value) not in given
    ]
    wrong = [n for n, t in weights.items() if n not in own or own[n].shape != t.shape]
    if missing or wrong:
        raise DataError(
            f"{path} does not fit the model: missing {missing[:3]}, of other names or shapes "
            f"{wrong[:3]}"
        )
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(placed(value, own[name]))
    tensors = {n: t for n, t in found.items() if not n.startswith(_MODEL)}
    return tensors, state


def _read_whole(path: Path) -> dict[str, Tensor]:
    weights = load_file(path / "model.safetensors")
    return {
        **{f"{_MODEL}{name}": value for name, value in weights.items()},
        **load_file(path / "tensors.safetensors"),
    }


def _read_shards(shards: Path, model: nn.Module) -> dict[str, Tensor]:
    """Read this rank's part of every tensor, whatever ranks wrote it."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    own = model.state_dict()
    metadata = FileSystemReader(shards).read_metadata().state_dict_metadata
    wanted: dict[str, Any] = {}
    for name, each in metadata.items():
        size = getattr(each, "size", torch.Size())
        like = own.get(name.removeprefix(_MODEL)) if name.startswith(_MODEL) else None
        if like is None:  # .../<parameter>/<entry>
            like = own.get(name.split("/")[-2])
        shape_fits = like is not None and like.shape == size
        wanted[name] = torch.zeros_like(like) if shape_fits else torch.zeros(size)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(no_dist|distributed is).*")
        load(wanted, checkpoint_id=shards, no_dist=world_size() == 1)
    return wanted
