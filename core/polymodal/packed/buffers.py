"""All tensors of a batch side by side in one buffer, so that one copy moves them all.

Each tensor by itself would cost a worker's queue a file descriptor, and a device a copy; a batch of
six modalities has thirty.
"""

import io
import itertools
import pickle
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol, Self, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

_ALIGNMENT = 64  # bytes: that of torch's own allocations


class Mapped(Protocol):
    """What holds tensors, and can be had with others in their places."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with every tensor changed, in the same order each time."""


Held = TypeVar("Held", bound=Mapped)


def moved(held: Held, move: Callable[[Tensor], Tensor]) -> Held:
    """Return a copy whose tensors have been moved, all by one call of `move`; without gradients."""
    tensors: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    held.map(note)
    there = iter(apart(move(side_by_side(tensors)), tensors))
    return held.map(lambda _: next(there))


def side_by_side(tensors: Sequence[Tensor]) -> UInt8[Tensor, " byte"]:
    """Return a buffer with the bytes of all tensors: the one they lie in already, if they do."""
    if not tensors:
        return torch.zeros(0, dtype=torch.uint8)
    starts, size = _starts(tensors)
    storage = tensors[0].untyped_storage()
    buffer = torch.empty(0, dtype=torch.uint8, device=tensors[0].device)
    if storage.nbytes() == size and all(
        each.untyped_storage().data_ptr() == storage.data_ptr()
        and each.storage_offset() * each.itemsize == start
        and each.is_contiguous()
        for each, start in zip(tensors, starts, strict=True)
    ):
        return buffer.set_(storage, 0, (size,), (1,))  # type: ignore[call-overload, no-any-return]
    buffer.resize_(size)
    for each, place in zip(tensors, apart(buffer, tensors), strict=True):
        place.copy_(each.detach())
    return buffer


def apart(buffer: UInt8[Tensor, " byte"], like: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors like these, as `side_by_side` has laid them out: views of the buffer."""
    starts, _ = _starts(like)
    return [
        _view(buffer, start, each.dtype, each.shape)
        for each, start in zip(like, starts, strict=True)
    ]


def pickled(value: object) -> tuple[bytes, UInt8[Tensor, " byte"]]:
    """Return a value as bytes, and the tensors that it holds as a buffer."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dump(value)
    return file.getvalue(), side_by_side(pickler.tensors)


def unpickled(data: bytes, buffer: UInt8[Tensor, " byte"]) -> Any:
    """Return the value that was `pickled`; its tensors are views of the buffer."""
    unpickler = _Unpickler(io.BytesIO(data))
    unpickler.buffer = buffer
    return unpickler.load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int):
        super().__init__(file, protocol)
        self.tensors: list[Tensor] = []
        self._start = 0

    def persistent_id(self, value: object) -> tuple[int, torch.dtype, tuple[int, ...]] | None:
        if type(value) is not Tensor or value.layout != torch.strided or not value.is_cpu:
            return None
        start, self._start = self._start, self._start + _room(value)
        self.tensors.append(value)
        return start, value.dtype, tuple(value.shape)


class _Unpickler(pickle.Unpickler):
    buffer: Tensor

    def persistent_load(self, place: tuple[int, torch.dtype, tuple[int, ...]]) -> Tensor:
        return _view(self.buffer, *place)


def _view(buffer: Tensor, start: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    return buffer[start : start + prod(shape) * dtype.itemsize].view(dtype).view(tuple(shape))


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.itemsize // _ALIGNMENT) * _ALIGNMENT


def _starts(tensors: Sequence[Tensor]) -> tuple[list[int], int]:
    """Return where each of the tensors starts in their buffer, and its size."""
    ends = list(itertools.accumulate(map(_room, tensors), initial=0))
    return ends[:-1], ends[-1]
