"""A batch: the packed streams of some samples, and what else is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from polymodal.tokens import Tokens


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and why."""

    source: str
    index: int
    reason: str


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
    # dealt: which samples are whose, for objectives of a group; every sample is the others'

    def __post_init__(self) -> None:
        for name, tokens in self.streams.items():
            if tokens.layout.samples != self.samples:
                raise ValueError(
                    f"stream {name!r} has {tokens.layout.samples} samples, the batch {self.samples}"
                )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on a device."""
        streams = {
            name: tokens.to(device, non_blocking=non_blocking)
            for name, tokens in self.streams.items()
        }
        keys = self.keys.to(device, non_blocking=non_blocking)
        return replace(self, streams=streams, keys=keys)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        streams = {name: tokens.pin_memory() for name, tokens in self.streams.items()}
        return replace(self, streams=streams, keys=self.keys.pin_memory())
