"""The letters of nucleotide sequences: IUPAC codes, complements, checks."""

from polymodal import UnreadableError

BASES = "ACGT"
AMBIGUOUS = "NRYSWKMBDHV"
"""IUPAC codes for several possible bases, N for any."""

# U, the T of RNA, is read as T.
LETTERS = BASES + "U" + AMBIGUOUS
_BOTH_CASES = (LETTERS + LETTERS.lower()).encode()

_COMPLEMENT = str.maketrans(
    LETTERS + LETTERS.lower(),
    "TGCAA" + "NYRSWMKVHDB" + "tgcaa" + "nyrswmkvhdb",
)


def reverse_complement(sequence: str) -> str:
    """Return the other strand, read in its own direction; case is kept, U pairs as T does."""
    return sequence[::-1].translate(_COMPLEMENT)


def check_letters(sequence: str | bytes, *, where: str = "", start: int = 0) -> None:
    """Refuse letters that are no IUPAC nucleotide code, gaps and stops included.

    Raises:
        UnreadableError: the first such letter and its place, from 0 (from `start`).
    """
    content = sequence if isinstance(sequence, bytes) else sequence.encode("utf-8", "replace")
    if not content.translate(None, _BOTH_CASES):
        return
    if isinstance(sequence, bytes):
        sequence = sequence.decode("latin-1")
    known = set(LETTERS + LETTERS.lower())
    place = next(i for i, letter in enumerate(sequence) if letter not in known)
    raise UnreadableError(
        f"{where or 'the sequence'} has {sequence[place]!r} at position {place + start} (from 0), "
        "which is no IUPAC nucleotide code"
    )


def table(values: dict[str, int], other: int) -> bytes:
    """Return a table for `bytes.translate`: both cases alike, U as T; `other` for the rest."""
    found = bytearray([other]) * 256
    for letter, value in values.items():
        found[ord(letter)] = found[ord(letter.lower())] = value
    found[ord("U")] = found[ord("u")] = found[ord("T")]
    return bytes(found)


_AMBIGUITY = table({**dict.fromkeys(BASES, 0), **dict.fromkeys(AMBIGUOUS, 1)}, 1)


def unknown_share(sequence: str) -> float:
    """Return the share of letters that are not A, C, G, T or U; 0 for an empty sequence."""
    marks = sequence.encode("ascii", "replace").translate(_AMBIGUITY)
    return marks.count(1) / len(marks) if marks else 0.0
