"""Reading nucleotide sequences."""

from typing import Any

import numpy as np

from polymodal import Reader, UnreadableError
from polymodal_genome.letters import check_letters


class SequenceReader(Reader):
    """A sequence from a string, bytes, an array of letters, or an object like Biopython's `Seq`.

    White space within it is taken out. IUPAC ambiguity codes are kept.

    Args:
        keep_case: leave lower case as it is (repeats, as assemblies mark them) for a tokenizer
            that has a use for it; else all letters become upper case.
    """

    def __init__(self, *, keep_case: bool = False):
        self.keep_case = keep_case

    def __call__(self, value: Any) -> str:
        """Return the sequence.

        Raises:
            UnreadableError: an empty sequence, a letter that is no nucleotide code with its place,
                a value that is no sequence.
        """
        text = "".join(_text(value).split())
        if not text:
            raise UnreadableError("the sequence is empty")
        check_letters(text)
        return text if self.keep_case else text.upper()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("latin-1")
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "SU":
        return "".join(value.astype(str).tolist())
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.uint8:
        return value.tobytes().decode("latin-1")
    inner = getattr(value, "seq", value)  # Biopython's SeqRecord holds its Seq there
    if type(inner).__name__ in ("Seq", "MutableSeq"):
        return str(inner)
    raise UnreadableError(
        f"a sequence must be a string or bytes of letters, got {type(value).__name__}: "
        f"{value!r:.60}"
    )
