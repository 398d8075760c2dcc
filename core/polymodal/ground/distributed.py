"""What the core needs of torch.distributed: ranks, sums over ranks, gathered rows."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


def is_distributed() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """This process's number among them."""
    return dist.get_rank() if is_distributed() else 0


def communication_device() -> torch.device:
    """Where tensors must lie that ranks exchange."""
    cuda = is_distributed() and dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, without gradients."""
    if world_size() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


def any_over_ranks(flags: Iterable[bool], device: torch.device) -> list[bool]:
    """Return, for each flag, whether any rank has it set."""
    flags = list(flags)
    if world_size() == 1:
        return flags
    return [count > 0 for count in sum_over_ranks(torch.tensor(flags, device=device).int())]


@contextmanager
def holding_gradients(model: nn.Module) -> Iterator[None]:
    """Keep a sharded model whole and its gradients here while an inner gradient is taken."""
    whole: Any = model
    if not hasattr(whole, "set_reshard_after_backward"):  # not sharded
        yield
        return
    whole.set_is_last_backward(False)
    whole.set_requires_gradient_sync(False)
    whole.set_reshard_after_backward(False)
    try:
        yield
    finally:
        whole.set_is_last_backward(True)
        whole.set_requires_gradient_sync(True)
        whole.set_reshard_after_backward(True)


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is a rank's part of one cut up among ranks (a DTensor)."""
    return hasattr(tensor, "placements")  # asking for the type would import it: a second


def placed(value: Tensor, like: Tensor) -> Tensor:
    """Return a tensor on the device, and in the shards, of another of its shape."""
    value = value.to(like.device)
    if is_shard(value) or not is_shard(like):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value, like.device_mesh, like.placements)


def whole_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """Return a sharded model's whole weights, on rank 0 alone; None for a model that is whole."""
    if not any(map(is_shard, model.parameters())):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(model, options=options))


class _Gather(torch.autograd.Function):
    """All ranks' rows, first rank first; the gradient is summed over ranks and cut back."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
        dist.all_gather(sizes, torch.tensor([rows.shape[0]], device=rows.device))
        ctx.sizes = [int(size) for size in sizes]
        longest = max(ctx.sizes)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: rows.shape[0]] = rows
        gathered = [torch.empty_like(padded) for _ in ctx.sizes]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:size] for part, size in zip(gathered, ctx.sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        start = sum(ctx.sizes[: rank()])
        return grad[start : start + ctx.sizes[rank()]]


def gather_rows(rows: Float[Tensor, "row width"]) -> Float[Tensor, "all_rows width"]:
    """Return the rows of all ranks, first rank first; ranks may differ in how many they have.

    Backward sums the gradients of all ranks' losses. A loss that every rank computes in full is
    therefore counted once a rank.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)
