"""A batch: the packed streams of some samples, and what else is known of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from polymodal.packed.buffers import moved, pickled, unpickled
from polymodal.packed.tokens import Tokens


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and why."""

    source: str
    index: int
    reason: str
    stream: str | None = None  # that could not be read, where it was one


@dataclass(frozen=True, eq=False)
class Batch:
    """The streams of some samples, and what else is known of each."""

    streams: Mapping[str, Tokens]
    samples: int
    keys: Int[Tensor, " sample"]  # identifies (source, index, epoch), for noise by sample
    sources: tuple[str, ...] = ()  # the data source of each sample
    fields: Mapping[str, tuple[object, ...]] = field(default_factory=dict)  # labels and the like
    skipped: tuple[Skipped, ...] = ()
    dealt: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    cut: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    # cut: by stream, of which samples a limit of its tokenizer left something out; streams without
    # any are not there
    # dealt: which samples are whose, for objectives of a group; every sample is the others'

    def __post_init__(self) -> None:
        for name, tokens in self.streams.items():
            if tokens.layout.samples != self.samples:
                raise ValueError(
                    f"stream {name!r} has {tokens.layout.samples} samples, the batch {self.samples}"
                )

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with every tensor changed; `change` must keep shapes."""
        streams = {name: tokens.map(change) for name, tokens in self.streams.items()}
        return replace(self, streams=streams, keys=change(self.keys))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on a device, all of its tensors moved in one copy."""
        if torch.device(device) == self.keys.device:
            return self
        return moved(self, lambda buffer: buffer.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, all of its tensors in one buffer."""
        return moved(self, Tensor.pin_memory)

    def __reduce__(self) -> tuple[Any, ...]:  # a data worker sends one buffer, not every tensor
        return _unpickled, pickled(vars(self))


def _unpickled(data: bytes, buffer: Tensor) -> Batch:
    return Batch(**unpickled(data, buffer))
