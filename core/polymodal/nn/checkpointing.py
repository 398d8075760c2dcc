"""Gradient checkpointing: what of a block is kept, and what is worked out again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

Checkpointing = bool | Literal["alternate", "selective"]


def contexts(
    how: Checkpointing, *, attention: bool
) -> Callable[[], tuple[AbstractContextManager, AbstractContextManager]]:
    """Return what torch's `checkpoint` asks for as `context_fn`.

    Args:
        how: "selective" keeps attention and matrix products; anything else keeps nothing.
        attention: whether attention may be kept. What drops weights may not: it would draw no
            second time, where all that follows does.
    """
    if how != "selective":
        return noop_context_fn
    policy = partial(_worth_keeping, attention=attention)
    return partial(create_selective_checkpoint_contexts, policy)


def _worth_keeping(
    context: SelectiveCheckpointContext, operation: Any, *inputs: Any, attention: bool, **rest: Any
) -> CheckpointPolicy:
    """Keep attention and matrix products, but not the MLP's last, which no gradient asks for."""
    name = str(operation)
    if name.startswith(("aten.mm", "aten.addmm")):
        taken, made = inputs[-1].shape
        kept = made >= taken
    else:
        kept = attention and "att" in name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def casting_anew(vectors: Tensor) -> AbstractContextManager[object]:
    """Let autocast keep no casts of weights, or a block would do less at first than again."""
    kind = vectors.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), cache_enabled=False)
