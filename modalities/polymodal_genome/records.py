"""The records of FASTA and FASTQ files: their bytes, unpacked, and what stands in them."""

import gzip
import io
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polymodal import DataError, check_growth

GZIP = b"\x1f\x8b"
MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors put at a file's start
CHUNK = 1 << 20


@dataclass(frozen=True)
class Record:
    """One record, or what is wrong with it."""

    name: str
    description: str = ""  # of the header what follows the name
    sequence: bytes = b""
    quality: np.ndarray | None = None  # Phred scores, uint8
    fault: str | None = None


class Records(ABC):
    """The records of one file by number."""

    names: list[str]
    lengths: list[int]
    faults: list[str | None]  # why a record can't be used

    @abstractmethod
    def fetch(self, number: int, start: int, stop: int) -> Record:
        """Return a stretch of a record."""


class InMemory(Records):
    """All records of a file, held in memory. FASTA or FASTQ is told by its content."""

    def __init__(self, path: Path, most: int | None = None):
        self._records = list(read_records(path, most))
        self.names = [record.name for record in self._records]
        self.lengths = [len(record.sequence) for record in self._records]
        self.faults = [record.fault for record in self._records]

    def fetch(self, number: int, start: int, stop: int) -> Record:
        """Return a stretch of a record."""
        whole = self._records[number]
        quality = None if whole.quality is None else whole.quality[start:stop]
        return Record(whole.name, whole.description, whole.sequence[start:stop], quality)


class TooLargeError(Exception):
    """A packed file holds more than is allowed in memory."""


def read_records(path: Path, most: int | None = None) -> Iterator[Record]:
    """Yield the records of a FASTA or FASTQ file, plain or gzip; broken ones have a fault.

    Raises:
        DataError: the file can't be opened, is empty, or is neither.
        TooLargeError: it unpacks to more than `most` bytes.
    """
    content, cut = _content(path, most)
    first = content.lstrip()[:1]
    if first in (b">", b";"):
        yield from _fasta(content, cut)
    elif first == b"@":
        yield from _fastq(content, cut)
    elif cut:
        raise DataError(f"{path} is no whole gzip file: {cut}")
    elif not first:
        raise DataError(f"{path} is empty")
    else:
        raise DataError(f"{path} is neither FASTA nor FASTQ: it begins with {content[:20]!r}")


def unpacked(path: Path) -> Iterator[bytes]:
    """Yield what a gzip file holds, piece by piece.

    Raises:
        DataError: it can't be opened, or grows without end.
        EOFError, OSError, zlib.error: it breaks off, or is damaged.
    """
    size, total = path.stat().st_size, 0
    with gzip.open(path) as file:
        while part := file.read1(CHUNK):
            total += len(part)
            check_growth(str(path), size, total)
            yield part


def _content(path: Path, most: int | None) -> tuple[bytes, str | None]:
    """Return a file's content, unpacked, and where it breaks off why."""
    try:
        with path.open("rb") as file:
            begin = file.read(2)
            if begin != GZIP:
                return (begin + file.read()).removeprefix(MARK), None
    except OSError as error:
        raise DataError(f"{str(path)[:200]} can't be read: {error.strerror or error}") from error
    except ValueError as error:  # NUL or half a surrogate pair in the path
        raise DataError(f"{str(path)[:200]!r} is no path: {error}") from error
    parts, total, cut = [], 0, None
    try:
        for part in unpacked(path):
            parts.append(part)
            total += len(part)
            if most is not None and total > most:
                raise TooLargeError
    except (EOFError, OSError, zlib.error) as error:
        cut = str(error)
    return b"".join(parts).removeprefix(MARK), cut


def header_of(line: bytes) -> tuple[str, str]:
    """Return the name and the description of a header, without its first letter.

    Bytes that are not UTF-8 are read as Latin-1, so that names stay apart.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    name, *rest = re.split(r"[ \t]+", text.strip(), maxsplit=1)
    return name, "".join(rest)


def sequence_of(body: bytes) -> bytes:
    """Return the letters of a record's lines: without blanks, blank lines and comments."""
    body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b";" in body:  # comment lines of old files
        body = b"\n".join(line for line in body.split(b"\n") if not line.startswith(b";"))
    return body.translate(None, b" \t\n")


def _fasta(content: bytes, cut: str | None) -> Iterator[Record]:
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    content = content[1:] if content.startswith(b">") else content.partition(b"\n>")[2]
    parts = content.split(b"\n>")
    for number, part in enumerate(parts):
        header, _, body = part.partition(b"\n")
        name, description = header_of(header)
        sequence = sequence_of(body)
        fault = None
        if cut and number == len(parts) - 1:
            fault = f"is cut off: {cut}"
        elif not sequence:
            fault = "has no sequence"
        yield Record(name, description, sequence, fault=fault)


def _fastq(content: bytes, cut: str | None) -> Iterator[Record]:
    import dnaio  # only where there are reads

    count = 0
    try:
        with dnaio.open(io.BytesIO(content), fileformat="fastq") as reads:
            for read in reads:
                name, description = header_of(read.name.encode())
                sequence = read.sequence.encode()
                quality = np.frombuffer(read.qualities.encode(), np.uint8) - 33
                fault = None if sequence else "has no sequence"
                yield Record(name, description, sequence, quality, fault)
                count += 1
    except (dnaio.FileFormatError, EOFError) as error:
        why = cut or f"{error} (a read has four lines)"
        yield Record(f"read {count + 1}", fault=f"and what follows can't be read: {why}")
        return
    if cut:
        yield Record(f"read {count + 1}", fault=f"and what follows is cut off: {cut}")
