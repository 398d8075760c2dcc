"""Batches of like lengths: the run's sequence in another order, still a function of position alone.

Within windows of some batches samples are sorted by length and cut into batches, which are then
shuffled. No window crosses an epoch, so an epoch still sees every row once; nothing is kept, so a
run goes on from any position.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from polymodal.data.sampling import Mixture, Refs, permute
from polymodal.packed.noise import hash_words


class Grouped:
    """The samples of a mixture in the order described above; draws like the mixture itself.

    Args:
        mixture: the run's sequence, without blocks.
        lengths: tokens of every row of every source.
        batch_size: samples of a batch.
        window: batches that are sorted together.
        budget: most tokens of a batch; then a draw ends where the batch does, and windows hold as
            many samples but may make more batches.
    """

    block = 1

    def __init__(
        self,
        mixture: Mixture,
        lengths: Sequence[Int[np.ndarray, " row"]],
        *,
        batch_size: int,
        window: int,
        budget: int | None = None,
    ):
        self.mixture = mixture
        self.lengths = lengths
        self.batch_size = batch_size
        self.window = window
        self.budget = budget
        self._last: tuple[Refs, Int[np.ndarray, " batch"]] | None = None

    def draw(self, start: int, stop: int) -> Refs:
        """Return the samples at positions start to stop; with a budget, those of one batch."""
        found = []
        place = start
        while place < stop:
            refs, ends = self._window(place)
            end = min(stop, refs.stop)
            if self.budget is not None:
                end = min(end, int(ends[np.searchsorted(ends, place, side="right")]))
            found.append(refs.cut(place, end))
            if self.budget is not None:
                break
            place = end
        return found[0] if len(found) == 1 else Refs.joined(found)

    def _window(self, position: int) -> tuple[Refs, Int[np.ndarray, " batch"]]:
        """Return the window that holds a position, in its new order, and where batches end."""
        if self._last is None or not self._last[0].start <= position < self._last[0].stop:
            first, last = self.mixture.epoch_around(position)
            size = self.window * self.batch_size
            grid = first - first % self.batch_size
            start = grid + (position - grid) // size * size
            refs = self.mixture.draw(max(start, first), min(start + size, last))
            self._last = self._ordered(refs)
        return self._last

    def _ordered(self, refs: Refs) -> tuple[Refs, Int[np.ndarray, " batch"]]:
        tokens = np.empty(len(refs), dtype=np.int64)
        for source in np.unique(refs.source):
            mine = refs.source == source
            tokens[mine] = self.lengths[source][refs.index[mine]]
        order = np.argsort(tokens, kind="stable")
        if self.budget is None:
            groups = self._on_the_grid(refs, order)
        else:
            groups = self._within_budget(order, tokens[order])
        key = hash_words(self.mixture.seed, "groups", refs.start)
        # Ranks take parts of a batch: within one, no length comes first.
        groups = [group[permute(np.arange(len(group)), len(group), key)] for group in groups]
        whole = [n for n, each in enumerate(groups) if len(each) == self.batch_size or self.budget]
        moved = permute(np.arange(len(whole)), len(whole), key + 1)
        shuffled = list(groups)
        for to, source in zip(whole, moved, strict=True):
            shuffled[to] = groups[whole[source]]
        ends = refs.start + np.cumsum([len(group) for group in shuffled])
        return refs.reordered(np.concatenate(shuffled)), ends

    def _on_the_grid(self, refs: Refs, order: np.ndarray) -> list[np.ndarray]:
        """Cut where steps do: at multiples of the batch size, counted from the run's start.

        A batch that is part of two epochs has the shortest samples of both.
        """
        head, tail = -refs.start % self.batch_size, refs.stop % self.batch_size
        order = np.roll(order, -tail)
        return [g for g in np.split(order, range(head, len(order), self.batch_size)) if len(g)]

    def _within_budget(self, order: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
        """Cut where the next sample would go past the budget, or the batch be full."""
        assert self.budget is not None
        total = np.concatenate([[0], tokens.cumsum()])
        ends = [0]
        while ends[-1] < len(order):
            fit = int(np.searchsorted(total, total[ends[-1]] + self.budget, side="right")) - 1
            ends.append(min(max(fit, ends[-1] + 1), ends[-1] + self.batch_size))
        return np.split(order, ends[1:-1])
