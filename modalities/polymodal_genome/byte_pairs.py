"""Pieces of bases learned by byte-pair encoding (DNABERT-2: Zhou et al., 2023, section 3.1)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, trainers

from polymodal import FilePath, Tokens
from polymodal_genome.letters import AMBIGUOUS, BASES
from polymodal_genome.spec import GenomeSpec
from polymodal_genome.strands import check_probability, check_sequence, longer, prepared
from polymodal_text import ROLES, SPECIAL, SubwordTokenizer

# Learning takes sequences in stretches of this many bases: merges of a whole chromosome as a
# single word would cost its length squared.
STRETCH = 512


class BaseBytePairs(SubwordTokenizer):
    """Pieces of A, C, G, T, learned from the training split or loaded.

    Ambiguity codes are the unknown token, one for a run of them. The letters are upper-cased
    before.

    Args:
        vocabulary_size: ids, special tokens and bases included; None: the file's, or 8,000.
        file: a tokenizer.json, in place of learning.
        max_tokens: longer segments are cut.
        mark_ends: put begin and end tokens around each segment.
        reverse_complement: in training, the probability of reading the other strand.
        max_unknown: skip sequences with a greater share of ambiguous letters.
        max_bases: cut sequences to this length first, at a random place in training; None: not.

    Raises:
        ValueError: a vocabulary too small, a share outside 0 to 1.
    """

    reader = "genome.sequence"
    smallest_vocabulary = len(ROLES) + len(BASES)
    marks_words = False

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: FilePath | None = None,
        max_tokens: int = 512,
        mark_ends: bool = False,
        reverse_complement: float = 0.0,
        max_unknown: float = 1.0,
        max_bases: int | None = None,
    ):
        super().__init__(
            vocabulary_size=vocabulary_size, file=file, max_tokens=max_tokens, mark_ends=mark_ends
        )
        check_probability("reverse_complement", reverse_complement)
        check_probability("max_unknown", max_unknown)
        if max_bases is not None and max_bases < 1:
            raise ValueError(f"max_bases must be at least 1, got {max_bases}")
        self.reverse_complement = reverse_complement
        self.max_unknown = max_unknown
        self.max_bases = max_bases

    @property
    def spec(self) -> GenomeSpec:  # type: ignore[override]
        """Ids on one position axis; pieces have no complement."""
        plain = super().spec
        return GenomeSpec(
            vocabulary=plain.vocabulary,
            extent=plain.extent,
            max_tokens=plain.max_tokens,
            kinds=plain.kinds,
            special=plain.special,
            units="pieces",
            structure=plain.structure,
        )

    def check(self, raw: Any) -> None:
        """Refuse illegal letters, an empty sequence, too many ambiguous letters.

        Raises:
            UnreadableError: why.
        """
        check_sequence(raw, shortest=1, max_unknown=self.max_unknown)

    def encode(
        self,
        raws: Sequence[str | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a sequence; None has no tokens."""
        sequences = prepared(
            raws, generators, probability=self.reverse_complement, longest=self.max_bases
        )
        tokens = super().encode([_plain(sequence) for sequence in sequences])
        both = zip(tokens.cut, longer(raws, self.max_bases), strict=True)
        return replace(tokens, cut=tuple(by_tokens or by_bases for by_tokens, by_bases in both))

    def fit(self, raws: Iterable[str | None]) -> None:
        """Learn the pieces; the same sequences, in any order, give the same ones."""
        super().fit(
            plain[start : start + STRETCH]
            for raw in raws
            if raw is not None
            for plain in [_plain(raw)]
            for start in range(0, len(plain), STRETCH)
        )

    def learn(self, texts: Iterable[str], size: int) -> Tokenizer:
        """Learn at most `size` ids: special tokens, the four bases, merges."""
        trained = Tokenizer(models.BPE(unk_token=SPECIAL[1], fuse_unk=True))
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[*SPECIAL, *BASES],
            show_progress=False,
        )
        # A piece never spans an ambiguous letter.
        runs = (run for text in texts for run in text.translate(_GAPS).split())
        trained.train_from_iterator(runs, trainer)
        plain = Tokenizer(trained.model)
        plain.decoder = decoders.Fuse()
        return plain

    def load(self, path: Path) -> Tokenizer:
        """Load a tokenizer.json.

        Raises:
            ValueError: the tokenizer is of another kind.
        """
        loaded = Tokenizer.from_file(str(path))
        if not isinstance(loaded.model, models.BPE):
            raise ValueError(f"{path} holds {type(loaded.model).__name__}, not BPE")
        return loaded


_GAPS = str.maketrans(dict.fromkeys(AMBIGUOUS, " "))


def _plain(sequence: str) -> str:
    return sequence.upper().replace("U", "T")
