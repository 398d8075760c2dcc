"""What the tokenizers of genomes share: checks, the other strand, cutting to length."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from polymodal import UnreadableError
from polymodal_genome.letters import check_letters, reverse_complement, unknown_share


def check_sequence(raw: Any, *, shortest: int, max_unknown: float) -> None:
    """Refuse what is no sequence, too short for a token, or mostly ambiguous.

    Raises:
        UnreadableError: why.
    """
    if raw is None:
        return
    if not isinstance(raw, str):
        raise UnreadableError(f"a tokenizer of genomes takes strings, got {type(raw).__name__}")
    if len(raw) < shortest:
        raise UnreadableError(
            f"the sequence has {len(raw)} bases, fewer than the {shortest} of one token"
        )
    check_letters(raw)
    share = unknown_share(raw)
    if share > max_unknown:
        raise UnreadableError(
            f"{share:.0%} of the bases are ambiguous (N and the like), more than "
            f"max_unknown {max_unknown:.0%}"
        )


def check_probability(name: str, value: float) -> None:
    """Refuse what lies outside 0 to 1.

    Raises:
        ValueError: it does.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def prepared(
    raws: Sequence[str | None],
    generators: Sequence[np.random.Generator] | None,
    *,
    probability: float,
    longest: int | None,
) -> list[str]:
    """Return the sequences to tokenize: other strands drawn, then cut to `longest` letters.

    With generators a longer sequence is cut at a random place, without at its start.
    """
    sequences = ["" if raw is None else raw for raw in raws]
    if generators is not None:
        for number, (sequence, generator) in enumerate(zip(sequences, generators, strict=True)):
            # Both numbers are drawn whatever the sequence, so that options don't shift later ones.
            strand, place = generator.random(2)
            if longest is not None and len(sequence) > longest:
                start = int(place * (len(sequence) - longest + 1))
                sequence = sequence[start : start + longest]
            if strand < probability:
                sequence = reverse_complement(sequence)
            sequences[number] = sequence
    if longest is not None:
        sequences = [sequence[:longest] for sequence in sequences]
    return sequences


def longer(raws: Sequence[str | None], longest: int | None) -> tuple[bool, ...]:
    """Return which sequences `prepared` cuts."""
    return tuple(raw is not None and longest is not None and len(raw) > longest for raw in raws)


def packed_letters(sequences: Sequence[str]) -> bytes:
    """Return the letters of all sequences, end to end, a byte each."""
    return "".join(sequences).encode("ascii", "replace")


def with_marks(
    ids: np.ndarray, lengths: np.ndarray, *, begin: int, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put a begin and an end token around each segment that is not empty.

    Returns ids, lengths, kinds (1 for what was put in) and the rows of the old tokens.
    """
    added = np.where(lengths > 0, 2, 0)
    longer = lengths + added
    stops = np.cumsum(longer)
    total = int(longer.sum())
    kinds = np.zeros(total, np.int64)
    marked = np.full(total, begin, np.int64)
    filled = lengths > 0
    kinds[(stops - longer)[filled]] = 1
    kinds[stops[filled] - 1] = 1
    marked[stops[filled] - 1] = end
    rows = np.flatnonzero(kinds == 0)
    marked[rows] = ids
    return marked, longer, kinds, rows
