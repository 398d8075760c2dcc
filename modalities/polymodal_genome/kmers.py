"""Words of k bases as tokens, computed for a whole batch at once (DNABERT: Ji et al., 2021)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from polymodal import Layout, Tokenizer, Tokens
from polymodal_genome.letters import BASES, table
from polymodal_genome.spec import FIRST, SPECIAL_IDS, GenomeSpec
from polymodal_genome.strands import (
    check_probability,
    check_sequence,
    longer,
    packed_letters,
    prepared,
    with_marks,
)

LARGEST_K = 10  # a vocabulary of a million

_DIGITS = table({letter: number for number, letter in enumerate(BASES)}, 4)  # 4: ambiguous


def kmer_numbers(
    letters: bytes, k: int
) -> tuple[Int[np.ndarray, " start"], Bool[np.ndarray, " start"] | None]:
    """Return the number of the k-mer at each start, and which of them hold an ambiguous letter.

    A, C, G, T are digits 0 to 3 of a number whose first letter is its highest digit. The second
    array is None if all are clean.
    """
    digits = np.frombuffer(letters.translate(_DIGITS), np.uint8)
    starts = max(len(digits) - k + 1, 0)
    smallest = np.int16 if k < 8 else np.int32  # room for the ids of 4**k words
    number = _numbers(digits.astype(smallest), k)[:starts]
    ambiguous = np.flatnonzero(digits > 3)
    if not len(ambiguous):
        return number, None
    marked = np.zeros(starts, bool)
    for place in range(k):
        hit = ambiguous - place
        marked[hit[(hit >= 0) & (hit < starts)]] = True
    return number, marked


def _numbers(digits: np.ndarray, k: int) -> np.ndarray:
    """Join the numbers of two halves, so that k letters take log k steps."""
    if k == 1 or len(digits) < k:
        return digits
    half = k // 2
    part = _numbers(digits, half)
    joined: np.ndarray = (part[:-half] << 2 * half) + part[half:]
    return (joined[:-1] << 2) + digits[2 * half :] if k % 2 else joined


class Kmers(Tokenizer):
    """Ids of k-mers: 5 + its number, with A, C, G, T as digits and the first base the highest.

    A k-mer with an ambiguous letter is the unknown token. Letters behind the last whole step are
    left out.

    Args:
        k: bases a token, up to 10.
        stride: bases from one token to the next: 1 overlaps most, k not at all.
        max_tokens: longer sequences are cut, at a random place in training.
        mark_ends: put begin and end tokens around each segment.
        reverse_complement: in training, the probability of reading the other strand.
        max_unknown: skip sequences with a greater share of ambiguous letters.

    Raises:
        ValueError: a k or stride out of range, a share outside 0 to 1, no room for a k-mer.
    """

    reader = "genome.sequence"

    def __init__(
        self,
        *,
        k: int = 6,
        stride: int = 1,
        max_tokens: int = 1024,
        mark_ends: bool = False,
        reverse_complement: float = 0.0,
        max_unknown: float = 1.0,
    ):
        if not 1 <= k <= LARGEST_K:
            raise ValueError(f"k must lie between 1 and {LARGEST_K}, got {k}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        check_probability("reverse_complement", reverse_complement)
        check_probability("max_unknown", max_unknown)
        room = max_tokens - 2 * mark_ends
        if room < 1:
            raise ValueError(f"max_tokens must leave room for a k-mer, got {max_tokens}")
        self.k = k
        self.stride = stride
        self.max_tokens = max_tokens
        self.mark_ends = mark_ends
        self.reverse_complement = reverse_complement
        self.max_unknown = max_unknown
        self._longest = k + (room - 1) * stride  # letters of as many k-mers as there is room for

    @property
    def spec(self) -> GenomeSpec:
        """Ids on one position axis, with their alphabet."""
        return GenomeSpec(
            vocabulary=FIRST + 4**self.k,
            extent=(self.max_tokens,),
            max_tokens=self.max_tokens,
            kinds=("content", "special"),
            special=SPECIAL_IDS,
            units="kmers",
            k=self.k,
        )

    def check(self, raw: Any) -> None:
        """Refuse illegal letters, fewer than k of them, too many ambiguous ones.

        Raises:
            UnreadableError: why.
        """
        check_sequence(raw, shortest=self.k, max_unknown=self.max_unknown)

    def count(self, raws: Sequence[str | None]) -> list[int]:
        """Return how many tokens each sequence would have, from its length alone."""
        sizes = [0 if raw is None else min(len(raw), self._longest) for raw in raws]
        found = [(size - self.k) // self.stride + 1 if size >= self.k else 0 for size in sizes]
        return [count + 2 * self.mark_ends if count else 0 for count in found]

    def encode(
        self,
        raws: Sequence[str | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a sequence; None, and fewer than k letters, have no tokens."""
        sequences = prepared(
            raws, generators, probability=self.reverse_complement, longest=self._longest
        )
        number, marked = kmer_numbers(packed_letters(sequences), self.k)
        ids = number + FIRST
        if marked is not None:
            ids[marked] = SPECIAL_IDS["unknown"]
        sizes = np.fromiter(map(len, sequences), np.int64, len(sequences))
        lengths = np.maximum((sizes - self.k) // self.stride + 1, 0)
        begins = np.cumsum(sizes) - sizes
        ends = begins + lengths * self.stride
        stretches = zip(begins.tolist(), ends.tolist(), strict=True)
        pieces = [ids[begin : end : self.stride] for begin, end in stretches]
        ids = np.concatenate([ids[:0], *pieces], dtype=np.int64)
        kinds = None
        if self.mark_ends:
            ids, lengths, marks, _ = with_marks(
                ids, lengths, begin=SPECIAL_IDS["begin"], end=SPECIAL_IDS["end"]
            )
            kinds = torch.from_numpy(marks)
        layout = Layout.of(lengths.tolist(), kinds=kinds)
        # Letters behind the last whole step are left out of any sequence; a step more is a cut.
        cut = longer(raws, self._longest + self.stride - 1)
        return Tokens(layout, ids=torch.from_numpy(ids), cut=cut)

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the letters of each segment: of overlapping k-mers the first `stride` count.

        Special tokens are left out; an unknown k-mer is N, as many as it takes. With a stride above
        k the letters between two k-mers are N.
        """
        assert tokens.ids is not None
        sequences = []
        for segment in torch.split(tokens.ids.cpu(), list(tokens.layout.lengths)):
            words = [
                self._word(number)
                for number in segment.tolist()
                if number >= FIRST or number == SPECIAL_IDS["unknown"]
            ]
            steps = [word[: self.stride].ljust(self.stride, "N") for word in words[:-1]]
            sequences.append("".join([*steps, *words[-1:]]))
        return sequences

    def _word(self, number: int) -> str:
        if number < FIRST:
            return "N" * self.k
        digits = [((number - FIRST) >> (2 * place)) & 3 for place in reversed(range(self.k))]
        return "".join(BASES[digit] for digit in digits)
