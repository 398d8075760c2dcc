"""Reading nucleotide sequences."""

from pathlib import Path
from typing import Any

import numpy as np

from polymodal import DataError, Reader, UnreadableError
from polymodal_genome.letters import check_letters
from polymodal_genome.records import read_records


class SequenceReader(Reader):
    """A sequence from a string, bytes, an array of letters, or an object like Biopython's `Seq`.

    White space within it is taken out. IUPAC ambiguity codes are kept. A `Path` is a FASTA or FASTQ
    file of one record; for many, the source `genome.fasta` makes each a row.

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
                a value that is no sequence, a file that can't be read or has several.
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
    if isinstance(value, Path):
        return _of_file(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "SU":
        letters = value.tolist()
        return "".join(x.decode("latin-1") if isinstance(x, bytes) else x for x in letters)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.uint8:
        return value.tobytes().decode("latin-1")
    inner = getattr(value, "seq", value)  # Biopython's SeqRecord holds its Seq there
    if type(inner).__name__ in ("Seq", "MutableSeq"):
        return str(inner)
    raise UnreadableError(
        f"a sequence must be a string, bytes of letters or a path, got {type(value).__name__}: "
        f"{value!r:.60}"
    )


def _of_file(path: Path) -> str:
    try:
        records = list(read_records(path))
    except DataError as error:
        raise UnreadableError(str(error)) from error
    if not records:
        raise UnreadableError(f"{path} holds no record")
    if len(records) > 1:
        raise UnreadableError(f"{path} holds {len(records)} records, where one is wanted: split it")
    if records[0].fault is not None:
        raise UnreadableError(f"{path}: record {records[0].name!r} {records[0].fault}")
    return records[0].sequence.decode("latin-1")
