"""The records of FASTA and FASTQ files: in memory, or by an index for files too large for it."""

import gzip
import hashlib
import io
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polymodal import DataError, UnreadableError

GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


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

    def __init__(self, path: Path):
        self._records = list(read_records(path))
        self.names = [record.name for record in self._records]
        self.lengths = [len(record.sequence) for record in self._records]
        self.faults = [record.fault for record in self._records]

    def fetch(self, number: int, start: int, stop: int) -> Record:
        """Return a stretch of a record."""
        whole = self._records[number]
        quality = None if whole.quality is None else whole.quality[start:stop]
        return Record(whole.name, whole.description, whole.sequence[start:stop], quality)


class Indexed(Records):
    """The records of a FASTA file, plain or gzip, read from disk by pyfastx's index.

    The index is made once, in `folder`, and is the content's: path, size and time of change.
    """

    def __init__(self, path: Path, folder: Path | None):
        import pyfastx  # only where files are large

        status = path.stat()
        key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
        folder = folder or Path(tempfile.gettempdir()) / "polymodal-fasta"
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / f"{path.name}.{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
        try:
            self._file = pyfastx.Fasta(str(path), index_file=str(index))
            self.names = list(self._file.keys())
            self.lengths = [len(self._file[number]) for number in range(len(self.names))]
        except (RuntimeError, OSError) as error:
            raise DataError(f"{path} can't be indexed: {error}") from error
        self.faults = [None if length else "has no sequence" for length in self.lengths]

    def fetch(self, number: int, start: int, stop: int) -> Record:
        """Return a stretch of a record."""
        found = self._file[number]
        description = found.description.partition(" ")[2]
        try:
            letters = found[start:stop].seq if stop > start else ""
        except RuntimeError as error:
            raise UnreadableError(f"{found.name} can't be read: {error}") from error
        return Record(found.name, description, letters.encode("utf-8", "replace"))


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a FASTA or FASTQ file, plain or gzip; broken ones have a fault.

    Raises:
        DataError: the file can't be opened, is empty, or is neither.
    """
    content, cut = _content(path)
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


def _content(path: Path) -> tuple[bytes, str | None]:
    """Return a file's content, unpacked, and where it breaks off why."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    if not content.startswith(GZIP):
        return content, None
    parts, cut = [], None
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
        try:
            while part := unpacked.read1(_CHUNK):
                parts.append(part)
        except (EOFError, OSError, zlib.error) as error:
            cut = str(error)
    return b"".join(parts), cut


def _fasta(content: bytes, cut: str | None) -> Iterator[Record]:
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    content = content[content.find(b">") + 1 :] if content.startswith(b">") else (
        content.partition(b"\n>")[2]
    )  # fmt: skip
    parts = content.split(b"\n>")
    for number, part in enumerate(parts):
        header, _, body = part.partition(b"\n")
        name, _, description = header.decode("utf-8", "replace").strip().partition(" ")
        if b";" in body:  # comment lines of old files
            body = b"\n".join(line for line in body.split(b"\n") if not line.startswith(b";"))
        sequence = body.translate(None, b" \t\n")
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
                name, _, description = read.name.partition(" ")
                sequence = read.sequence.encode()
                quality = np.frombuffer(read.qualities.encode(), np.uint8) - 33
                fault = None if sequence else "has no sequence"
                yield Record(name, description, sequence, quality, fault)
                count += 1
    except (dnaio.FileFormatError, EOFError) as error:
        yield Record(f"read {count + 1}", fault=f"and what follows can't be read: {cut or error}")
        return
    if cut:
        yield Record(f"read {count + 1}", fault=f"and what follows is cut off: {cut}")
