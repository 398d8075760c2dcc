"""Rows made on demand, each from its own random state."""

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from polymodal import Sample, Source

Item = TypeVar("Item")


def pick(generator: np.random.Generator, items: Sequence[Item]) -> Item:
    """Return one of the items."""
    return items[int(generator.integers(len(items)))]


class GeneratedSource(Source):
    """A source whose row is a function of its own name, the seed and the row's number.

    Args:
        samples: how many rows.
        seed: of everything drawn.

    Raises:
        ValueError: a negative number.
    """

    fields: ClassVar[tuple[str, ...]]

    def __init__(self, *, samples: int, seed: int):
        if samples < 0:
            raise ValueError(f"samples must not be negative, got {samples}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.samples = samples
        self.seed = seed

    def __len__(self) -> int:
        return self.samples

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return self.fields

    def generator(self, *numbers: int) -> np.random.Generator:
        """Return a random state of this source, for a row say."""
        name = zlib.crc32(type(self).__name__.encode())
        return np.random.default_rng([self.seed, name, *numbers])

    def row(self, index: int) -> Sample:
        """Return one row."""
        if not 0 <= index < self.samples:
            raise IndexError(f"row {index} of {self.samples}")
        return self.make(index, self.generator(index))

    @abstractmethod
    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return a row; draw from this random state alone."""
