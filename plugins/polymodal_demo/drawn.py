"""What the drawn sources share: a row is drawn from the seed and its number alone."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from polymodal import Source

Choice = TypeVar("Choice")


class DrawnSource(Source):
    """Rows drawn one by one, each from (seed, row number), so that none needs another.

    The same seed gives the same rows in every process, and the first rows of a larger source are
    those of a smaller one.

    Args:
        samples: how many rows.
        seed: a whole number of at least 0; another seed draws other rows.

    Raises:
        ValueError: no rows, or a negative seed.
    """

    def __init__(self, *, samples: int, seed: int):
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.samples = samples
        self.seed = seed

    def __len__(self) -> int:
        return self.samples

    def row(self, index: int) -> Mapping[str, Any]:
        """Return one row.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= index < self.samples:
            raise IndexError(f"row {index} of a source of {self.samples}")
        return self.draw(index, np.random.default_rng((self.seed, index)))

    @abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return the row of this number, drawing from `rng` alone."""


def pick(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """Return one of the choices, each as likely; numpy's own would make them numpy's."""
    return choices[int(rng.integers(len(choices)))]
