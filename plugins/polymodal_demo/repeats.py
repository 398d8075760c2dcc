"""DNA of motifs in tandem repeats, labelled by the order of two of them."""

from functools import cached_property
from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource, pick

BASES = np.array(list("ACGT"))
_LONGEST_UNIT = 4  # bases of a repeat's unit


class Repeats(GeneratedSource):
    """DNA that is mostly tandem repeats, with motifs between them.

    A sequence is a chain of motifs, each after a stretch in which a unit of one to four bases is
    repeated. A source has its own motifs of 3 to 12 bases, drawn once. Two of the longest ones, of
    a few pairs, stand in every sequence, and which pair and in which order is the label; the other
    motifs come at random. Where motifs are is told in `motif`.

    What can be learned: the motifs, which come again and again among units that do not; which of
    them stand in a sequence, by counts of short words; and in which order, by more than counts.

    Fields: `genome` (A, C, G, T), `label` ("2-7": motif 2 before motif 7), `motif` (uint8 [base],
    1 within a motif), `split` (every third row is "validation", the others "train").

    Args:
        samples: how many.
        bases: of a sequence.
        motifs: how many different ones.
        pairs: how many pairs of them are labels, in both orders.
        repeats: share of the bases that are repeats, about.
        seed: of motifs and sequences.

    Raises:
        ValueError: a share outside (0, 1), more pairs than there are motifs for, more motifs than
            there are words, or so few bases that two motifs don't fit.
    """

    fields = ("genome", "label", "motif", "split")

    def __init__(
        self,
        *,
        samples: int = 20000,
        bases: int = 256,
        motifs: int = 40,
        pairs: int = 4,
        repeats: float = 0.7,
        seed: int = 0,
    ):
        super().__init__(samples=samples, seed=seed)
        if not 0 < repeats < 1:
            raise ValueError(f"repeats must lie between 0 and 1, got {repeats}")
        if pairs < 1 or 2 * pairs > motifs:
            raise ValueError(f"pairs must be 1 to half the motifs, got {pairs} of {motifs}")
        if motifs > 400:
            raise ValueError(f"motifs must be at most 400, got {motifs}")
        if bases < 32:
            raise ValueError(f"bases must be 32 or more, got {bases}")
        self.bases = bases
        self.motifs = motifs
        self.pairs = pairs
        self.repeats = repeats

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The motifs, longest first: all different, none of a single base again and again."""
        generator = self.generator()
        found: list[str] = []
        for length in sorted((3 + number % 10 for number in range(self.motifs)), reverse=True):
            word = ""
            while len(set(word)) < 2 or word in found:
                word = "".join(generator.choice(BASES, length))
            found.append(word)
        return tuple(found)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one sequence, its label and where its motifs are."""
        pair = 2 * int(generator.integers(self.pairs)) + np.arange(2)
        first, second = generator.permutation(pair)
        others = range(2 * self.pairs, self.motifs)
        chain = [self.words[first], self.words[second]]
        most = (1 - self.repeats) * self.bases
        while others and sum(map(len, chain)) < most:
            place = int(generator.integers(len(chain) + 1))
            chain.insert(place, self.words[pick(generator, others)])
        spare = self.bases - sum(map(len, chain))
        gaps = generator.multinomial(spare, np.full(len(chain) + 1, 1 / (len(chain) + 1)))
        parts = [_repeat(int(gaps[0]), generator)]
        marks = [np.zeros(gaps[0], np.uint8)]
        for word, gap in zip(chain, gaps[1:], strict=True):
            parts += [word, _repeat(int(gap), generator)]
            marks += [np.ones(len(word), np.uint8), np.zeros(gap, np.uint8)]
        return {
            "genome": "".join(parts),
            "label": f"{first}-{second}",
            "motif": np.concatenate(marks),
            "split": _split(index),
        }

    def column(self, name: str) -> list[Any]:
        """Return one field of every row; `split` without making them."""
        return list(map(_split, range(len(self)))) if name == "split" else super().column(name)


def _split(index: int) -> str:
    return "validation" if index % 3 == 2 else "train"


def _repeat(length: int, generator: np.random.Generator) -> str:
    """Return a unit of some bases again and again, from anywhere in it."""
    unit = generator.choice(BASES, int(generator.integers(1, _LONGEST_UNIT + 1)))
    start = int(generator.integers(len(unit)))
    return "".join(np.resize(np.roll(unit, -start), length))
