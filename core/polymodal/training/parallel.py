"""Many processes: the launcher's environment to a process group, the config to torch's own engine.

`torchrun` and SLURM's `srun` start the processes; `DistributedDataParallel` copies the model to
each, `fully_shard` (FSDP2) cuts it up among them.
"""

import inspect
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from polymodal.ground.distributed import is_distributed, rank, world_size
from polymodal.ground.errors import PolymodalError, foreign
from polymodal.model.model import PretrainingModel
from polymodal.nn.transformer import Transformer

Strategy = Literal["ddp", "fsdp"]


def launched(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return what torch's process group needs to know, or None for a single process.

    Raises:
        PolymodalError: several processes were started, but in a way that would leave each to train
            alone.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        missing = [name for name in names if name not in environment]
        if missing:
            raise PolymodalError(
                f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {', '.join(missing)} is not set: "
                "start with torchrun, which sets them all"
            )
        return {name: environment[name] for name in names}
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        node = environment.get("MASTER_ADDR") or environment.get("SLURM_STEP_NODELIST", "")
        if not node or "[" in node or "," in node:
            raise PolymodalError(
                f"srun started {environment['SLURM_STEP_NUM_TASKS']} tasks on several nodes: set "
                "MASTER_ADDR to the first one's name (scontrol show hostnames | head -n 1)"
            )
        # A port from the job's number: two jobs on one node seldom meet.
        port = str(20_000 + int(environment.get("SLURM_JOB_ID", "0")) % 20_000)
        return {
            "RANK": environment["SLURM_PROCID"],
            "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
            "LOCAL_RANK": environment["SLURM_LOCALID"],
            "MASTER_ADDR": node,
            "MASTER_PORT": environment.get("MASTER_PORT", port),
        }
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if int(environment.get(name, "1")) > 1:
            raise PolymodalError(
                f"{name} is {environment[name]}: mpirun's processes would each train alone; start "
                "with torchrun or srun"
            )
    return None


@contextmanager
def processes(device: str = "auto") -> Iterator[None]:
    """Join the launcher's process group for the length of a `with` block, if there is one.

    Raises:
        PolymodalError: a launch that would leave each process to train alone.
    """
    found = None if is_distributed() else launched(os.environ)
    if found is None:
        yield
        return
    os.environ.update(found)
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(found["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        with _told_of_each_other():
            yield
            dist.barrier()  # no rank leaves while another still talks to it
    finally:
        dist.destroy_process_group()


# How torch says that another process is gone, by gloo, nccl and the store.
_GONE = re.compile(
    r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|remote process exited|NCCL|Gloo|gloo"
    r"|[Tt]imed out waiting|recvValue failed|unhandled system error"
)
_PATIENCE = 10.0  # seconds in which all that live have noticed


@contextmanager
def _told_of_each_other() -> Iterator[None]:
    """Let ranks know by what error another one ended, or that it was lost.

    Raises:
        PolymodalError: which rank this one can't go on without.
    """
    store = dist.distributed_c10d._get_default_store()
    try:
        yield
    except BaseException as error:
        gone = isinstance(error, RuntimeError) and _GONE.search(str(error)) is not None
        with suppress(Exception):  # the store may be gone, too
            store.set(f"polymodal/{rank()}", "" if gone else foreign(error))
        if gone:
            raise PolymodalError(_ended(store)) from error
        raise


def _ended(store: Any) -> str:
    """Return which other ranks ended, and why as far as they could tell."""
    others = [number for number in range(world_size()) if number != rank()]
    told: dict[int, str] = {}
    until = time.monotonic() + _PATIENCE
    try:
        while len(told) < len(others) and time.monotonic() < until:
            for number in others:
                if number not in told and store.check([f"polymodal/{number}"]):
                    told[number] = store.get(f"polymodal/{number}").decode()
            if any(told.values()):
                break
            time.sleep(0.1)
    except RuntimeError:
        return "rank 0, which holds the ranks' store, was lost: look at its own output"
    reasons = [f"rank {number} ended: {reason}" for number, reason in told.items() if reason]
    lost = [str(number) for number in others if number not in told]
    if not reasons and lost:
        reasons = [f"rank {', '.join(lost)} was lost: killed, out of memory, or cut off"]
    return f"{'; '.join(reasons) or 'another rank was lost'}. This rank can't go on without it"


def parallel(model: PretrainingModel, strategy: Strategy, device: torch.device) -> nn.Module:
    """Return what to call instead of the model, so that gradients are averaged over ranks.

    "ddp" wraps the model; "fsdp" shards its parameters in place, block by block.
    """
    if world_size() == 1:
        return model
    if strategy == "fsdp":
        shard(model, device)
        return model
    wrapper = nn.parallel.DistributedDataParallel
    # Buffers are equal on all ranks, or say something of one rank's own batch. (2.15 renames it.)
    known = inspect.signature(wrapper).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sync: False, "gradient_as_bucket_view": True}
    if device.type == "cuda":
        options["device_ids"] = [torch.cuda.current_device()]
    return wrapper(model, **options)


def shard(model: PretrainingModel, device: torch.device) -> None:
    """Cut the parameters up among the ranks: each transformer block's, then all others."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (world_size(),))
    for part in model.modules():
        if isinstance(part, Transformer):
            for block in part.blocks:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("encode", "compare"):
        register_fsdp_forward_method(model, method)


@contextmanager
def last_backward(model: nn.Module, last: bool) -> Iterator[None]:
    """Let ranks exchange gradients in the last of several backward passes only."""
    if last or world_size() == 1:
        yield
    elif isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        model.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)  # type: ignore[operator]


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()
