"""One token a base."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from polymodal import Layout, Tokenizer, Tokens
from polymodal_genome.letters import AMBIGUOUS, BASES, table
from polymodal_genome.spec import BASE_IDS, FIRST, SPECIAL_IDS, GenomeSpec
from polymodal_genome.strands import (
    check_probability,
    check_sequence,
    longer,
    packed_letters,
    prepared,
    with_marks,
)


class Bases(Tokenizer):
    """Ids of bases: A, C, G, T (and U) are 5 to 8, N and the other ambiguity codes 9 to 19.

    Args:
        max_tokens: longer sequences are cut, at a random place in training.
        ambiguity: ambiguity codes have ids of their own; else all are the unknown token.
        soft_mask: a channel "lower" tells lower-case letters (marked repeats), and the encoder
            learns a vector for it; the reader must then keep case.
        mark_ends: put begin and end tokens around each segment.
        reverse_complement: in training, the probability of reading the other strand.
        max_unknown: skip sequences with a greater share of ambiguous letters.

    Raises:
        ValueError: a probability or share outside 0 to 1, no room for a base.
    """

    reader = "genome.sequence"

    def __init__(
        self,
        *,
        max_tokens: int = 1024,
        ambiguity: bool = True,
        soft_mask: bool = False,
        mark_ends: bool = False,
        reverse_complement: float = 0.0,
        max_unknown: float = 1.0,
    ):
        check_probability("reverse_complement", reverse_complement)
        check_probability("max_unknown", max_unknown)
        self._room = max_tokens - 2 * mark_ends
        if self._room < 1:
            raise ValueError(f"max_tokens must leave room for a base, got {max_tokens}")
        self.max_tokens = max_tokens
        self.ambiguity = ambiguity
        self.soft_mask = soft_mask
        self.mark_ends = mark_ends
        self.reverse_complement = reverse_complement
        self.max_unknown = max_unknown
        ids = BASE_IDS if ambiguity else {letter: BASE_IDS[letter] for letter in BASES}
        self._table = table(ids, SPECIAL_IDS["unknown"])

    @property
    def spec(self) -> GenomeSpec:
        """Ids on one position axis, with their alphabet."""
        return GenomeSpec(
            vocabulary=FIRST + len(BASES) + len(AMBIGUOUS),
            extent=(self.max_tokens,),
            max_tokens=self.max_tokens,
            kinds=("content", "special"),
            special=SPECIAL_IDS,
            channels={"lower": 2} if self.soft_mask else {},
            units="bases",
        )

    def check(self, raw: Any) -> None:
        """Refuse illegal letters, an empty sequence, too many ambiguous letters.

        Raises:
            UnreadableError: why.
        """
        check_sequence(raw, shortest=1, max_unknown=self.max_unknown)

    def count(self, raws: Sequence[str | None]) -> list[int]:
        """Return how many tokens each sequence would have, from its length alone."""
        sizes = (0 if raw is None else min(len(raw), self._room) for raw in raws)
        return [size + 2 * self.mark_ends if size else 0 for size in sizes]

    def encode(
        self,
        raws: Sequence[str | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a sequence; None has no tokens."""
        sequences = prepared(
            raws, generators, probability=self.reverse_complement, longest=self._room
        )
        letters = packed_letters(sequences)
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        ids = np.frombuffer(letters.translate(self._table), np.uint8).astype(np.int64)
        kinds, rows = np.zeros(len(ids), np.int64), np.arange(len(ids))
        if self.mark_ends:
            ids, lengths, kinds, rows = with_marks(
                ids, lengths, begin=SPECIAL_IDS["begin"], end=SPECIAL_IDS["end"]
            )
        channels = {}
        if self.soft_mask:
            lower = np.zeros(len(ids), np.int64)
            lower[rows] = np.frombuffer(letters, np.uint8) >= ord("a")
            channels["lower"] = torch.from_numpy(lower)
        layout = Layout.of(lengths.tolist(), kinds=torch.from_numpy(kinds), channels=channels)
        return Tokens(layout, ids=torch.from_numpy(ids), cut=longer(raws, self._room))

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the letters of each segment; special tokens are left out, unknown is N."""
        assert tokens.ids is not None
        names = ["", "N", "", "", "", *BASE_IDS]
        letters = [names[number] for number in tokens.ids.tolist()]
        if "lower" in tokens.layout.channels:
            low = tokens.layout.channels["lower"].tolist()
            letters = [
                letter.lower() if is_low else letter
                for letter, is_low in zip(letters, low, strict=True)
            ]
        offsets = tokens.layout.offsets.tolist()
        return ["".join(letters[a:b]) for a, b in pairwise(offsets)]
