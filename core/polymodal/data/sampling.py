"""Which samples make up which step: a pure function of seed and position.

The samples of a run form one endless sequence. Position p belongs to one source, by fixed shares,
and is the k-th draw from it; draw k of a source of n rows is row permutation(k mod n) of epoch
k // n. All of it is computed from p in constant time, so resuming needs one number, the position.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from polymodal.ground.errors import DataError
from polymodal.packed.noise import hash_words

_ROUNDS = 6
_LARGEST_CYCLE = 1 << 20
_QUANTA = 1 << 16


def _mix(x: np.ndarray) -> np.ndarray:
    """Return splitmix64's finaliser of unsigned 64-bit numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(ranks: Int[np.ndarray, " rank"], size: int, key: int) -> Int[np.ndarray, " rank"]:
    """Return where a permutation of range(size), chosen by `key`, takes each rank.

    A Feistel network over the next even power of two; values past `size` walk on until inside
    (Black and Rogaway, 2002). Constant time and no table, whatever the size.
    """
    if size <= 1:
        return np.zeros_like(ranks)
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    keys = _mix(np.arange(_ROUNDS, dtype=np.uint64) + np.uint64(key & (2**64 - 1)))
    found = ranks.astype(np.uint64)
    pending = np.arange(len(ranks))
    while len(pending):
        left, right = found[pending] >> bits, found[pending] & mask
        for round_key in keys:
            left, right = right, left ^ (_mix(right + round_key) & mask)
        found[pending] = (left << bits) | right
        pending = pending[found[pending] >= size]
    return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Refs:
    """Samples to read: positions start to stop of the run's sequence, or a part of them."""

    start: int
    stop: int
    source: Int[np.ndarray, " sample"]  # number of the source
    index: Int[np.ndarray, " sample"]  # row within its split
    epoch: Int[np.ndarray, " sample"]

    def __len__(self) -> int:
        return len(self.source)

    def part(self, number: int, parts: int) -> "Refs":
        """Return one of several contiguous parts, sizes differing by one at most."""
        cut = slice(len(self) * number // parts, len(self) * (number + 1) // parts)
        return Refs(self.start, self.stop, self.source[cut], self.index[cut], self.epoch[cut])

    def only(self, place: int) -> "Refs":
        """Return one of the samples."""
        cut = slice(place, place + 1)
        return Refs(self.start, self.stop, self.source[cut], self.index[cut], self.epoch[cut])

    def cut(self, start: int, stop: int) -> "Refs":
        """Return the stretch between two positions."""
        cut = slice(start - self.start, stop - self.start)
        return Refs(start, stop, self.source[cut], self.index[cut], self.epoch[cut])

    def reordered(self, order: Int[np.ndarray, " sample"]) -> "Refs":
        """Return the same positions with their samples in another order."""
        return Refs(self.start, self.stop, self.source[order], self.index[order], self.epoch[order])

    @staticmethod
    def joined(parts: Sequence["Refs"]) -> "Refs":
        """Return consecutive stretches as one."""
        source, index, epoch = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("source", "index", "epoch")
        )
        return Refs(parts[0].start, parts[-1].stop, source, index, epoch)


class Draws(Protocol):
    """An endless sequence of samples, in constant time at any position."""

    block: int  # batches end at multiples of it

    def draw(self, start: int, stop: int) -> Refs:
        """Return the samples at positions start to stop; fewer where a batch must end there."""


def shares_of(
    sizes: Mapping[str, int], weights: Mapping[str, float | None], *, exponent: float = 1.0
) -> Float[np.ndarray, " source"]:
    """Return each source's share of the samples, which add up to 1.

    A source without a weight has its rows to the power `exponent`: below 1, small sources are
    seen more often (of languages, Lample and Conneau, 2019, section 3.1; GraphCodeBERT).

    Raises:
        DataError: no source has rows, or one with a weight is empty.
    """
    shares = np.zeros(len(sizes))
    for number, (name, size) in enumerate(sizes.items()):
        weight = weights.get(name)
        shares[number] = (size**exponent if size else 0) if weight is None else weight
        if shares[number] > 0 and size == 0:
            raise DataError(f"source {name!r} has no rows to train on; give it weight 0")
    if not shares.sum():
        raise DataError("no source has rows to train on")
    return shares / shares.sum()


class Mixture:
    """The run's sequence of samples, drawn from sources by fixed shares.

    Args:
        sizes: rows of each source, by name.
        weights: share of each source; its rows unless given. Shares hold for any stretch of the
            sequence, to within one block a source (and one part in 65,536).
        seed: of the order.
        exponent: of the rows of sources without a weight; see `shares_of`.
        block: so many samples in a row, from position 0 on, are of one source.

    Attributes:
        shares: of the samples, by source; they add up to 1.

    Raises:
        DataError: no source has rows, or one with a weight is empty.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        weights: Mapping[str, float | None],
        seed: int,
        exponent: float = 1.0,
        block: int = 1,
    ):
        self.names = tuple(sizes)
        self.sizes = tuple(sizes.values())
        self.seed = seed
        self.block = block
        shares = shares_of(sizes, weights, exponent=exponent)
        self.shares = dict(zip(sizes, shares.tolist(), strict=True))
        by_rows = exponent == 1 and all(weights.get(name) is None for name in sizes)
        counts = self._counts(shares, by_rows)
        self.cycle = int(sum(counts))
        # Spread each source evenly over the cycle: its j-th draw stands at (j + 1/2) / count.
        source = np.repeat(np.arange(len(counts)), counts)
        draw = np.concatenate([np.arange(count) for count in counts])
        order = np.lexsort((source, (draw + 0.5) / np.repeat(np.maximum(counts, 1), counts)))
        self._source, self._draw, self._counts_array = source[order], draw[order], counts

    def _counts(self, shares: np.ndarray, by_rows: bool) -> np.ndarray:
        if by_rows and sum(self.sizes) <= _LARGEST_CYCLE:
            return np.array(self.sizes, dtype=np.int64)
        quanta = [max(1, round(_QUANTA * share)) if share else 0 for share in shares.tolist()]
        return np.array(quanta, dtype=np.int64) // np.gcd.reduce(quanta)

    def draw(self, start: int, stop: int) -> Refs:
        """Return the samples at positions start to stop."""
        position = np.arange(start, stop)
        block, inside = position // self.block, position % self.block
        cycle, place = block // self.cycle, block % self.cycle
        source = self._source[place]
        number = (cycle * self._counts_array[source] + self._draw[place]) * self.block + inside
        index = np.empty(len(position), dtype=np.int64)
        sizes = np.maximum(np.array(self.sizes), 1)
        epoch = number // sizes[source]
        for s in np.unique(source):
            for e in np.unique(epoch[source == s]):
                rows = (source == s) & (epoch == e)
                key = hash_words(self.seed, self.names[s], e)
                index[rows] = permute(number[rows] % sizes[s], self.sizes[s], key)
        return Refs(start, stop, source, index, epoch)

    def _largest(self) -> int:
        return int(np.argmax(np.where(self._counts_array > 0, self.sizes, -1)))

    def epoch_length(self) -> int:
        """Return how many samples are drawn until the largest source has been seen once."""
        largest = self._largest()
        blocks = -(-self.sizes[largest] // self.block)
        return -(-blocks * self.cycle // int(self._counts_array[largest])) * self.block

    def epoch_around(self, position: int) -> tuple[int, int]:
        """Return where the largest source's epoch that holds a position starts and stops.

        Of a mixture without blocks.
        """
        largest = self._largest()
        places = np.flatnonzero(self._source == largest)
        count, size = len(places), self.sizes[largest]

        def start(epoch: int) -> int:
            if not epoch:
                return 0
            cycle, draw = divmod(epoch * size, count)
            return cycle * self.cycle + int(places[draw])

        cycle, place = divmod(position, self.cycle)
        drawn = cycle * count + int(np.searchsorted(places, place, side="right"))
        epoch = max(drawn - 1, 0) // size
        return start(epoch), start(epoch + 1)


def batches(
    mixture: Draws,
    *,
    batch_sizes: Iterable[int],
    start: int = 0,
    budget: int | None = None,
    lengths: Sequence[Int[np.ndarray, " row"]] | None = None,
) -> Iterator[Refs]:
    """Yield the batch of each step from a position on, as many as there are `batch_sizes`.

    With a `budget`, a batch is the longest stretch of at most that many samples whose tokens fit
    it (one sample at least); `lengths` has the tokens of every row of every source. A batch ends
    where a block of the mixture does, if there are blocks.
    """
    for batch_size in batch_sizes:
        if mixture.block > 1:
            batch_size = min(batch_size, mixture.block - start % mixture.block)
        refs = mixture.draw(start, start + batch_size)
        if budget is not None:
            assert lengths is not None
            tokens = np.array([lengths[s][i] for s, i in zip(refs.source, refs.index, strict=True)])
            fit = max(1, int(np.searchsorted(tokens.cumsum(), budget, side="right")))
            if fit < len(refs):
                refs = Refs(
                    start, start + fit, refs.source[:fit], refs.index[:fit], refs.epoch[:fit]
                )
        yield refs
        start = refs.stop
