"""Compiling blocks once for any number of tokens, with attention outside the graphs."""

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.fx.experimental import _config as shapes

from polymodal.nn.blocks import CrossAttention, SelfAttention


def compile_each(blocks: Iterable[nn.Module], *, backend: str) -> None:
    """Compile blocks in place; those of equal sizes share one compilation."""
    # Transformers of several widths share the code, and torch allows 8 compilations of it.
    # Before it takes a limit here, `torch._dynamo.config.recompile_limit` sets one for all.
    limits = inspect.signature(torch.compile).parameters.keys() & {"recompile_limit"}
    options = dict.fromkeys(limits, 64)
    for block in blocks:
        for module in block.modules():
            if isinstance(module, SelfAttention | CrossAttention):
                module.attend = _untraced(type(module).attend)
        block.compile(dynamic=True, backend=backend, **options)


def sizes_apart() -> AbstractContextManager[object]:
    """Let a first batch of as many tokens as there are heads not tie the two for good."""
    return shapes.patch(use_duck_shape=False)  # type: ignore[attr-defined]


@cache  # one for all, so that transformers of the same sizes share their graphs
def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compiler.disable(function)
