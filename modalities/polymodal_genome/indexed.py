"""The records of a FASTA file that is too large for memory, read from disk by an index."""

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from polymodal import DataError, UnreadableError
from polymodal_genome.records import (
    GZIP,
    MARK,
    Record,
    Records,
    header_of,
    sequence_of,
    unpacked,
)

FORMAT = 1  # of the index; raise it when files are read in another way


class Place(NamedTuple):
    """Where a record's lines lie, in bytes, and how they are laid out."""

    name: str
    description: str
    start: int
    stop: int
    bases: int
    line: int  # bases a line; 0: lines are not alike, and the record has to be read as a whole
    step: int  # bytes from one line to the next


class Indexed(Records):
    """The records of a FASTA file by an index that is made once, in `folder`.

    Index and, of a gzip file, an unpacked copy bear the name of the file and a hash of its path,
    size and time of change. Rows are those that `InMemory` gives: where lines are not alike (blank
    lines, blanks, comments) a record is read as a whole.
    """

    def __init__(self, path: Path, folder: Path | None):
        self._path = path
        folder = folder or Path(tempfile.gettempdir()) / "polymodal-fasta"
        try:
            status = path.stat()
            key = f"{FORMAT} {path.resolve()} {status.st_size} {status.st_mtime_ns}"
            digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()
            folder.mkdir(parents=True, exist_ok=True)
            index = folder / f"{path.name}.{digest}.json"
            with path.open("rb") as file:
                packed = file.read(2) == GZIP
            if packed:
                self._path = index.with_suffix(".fa")
                if not self._path.exists():
                    _write(self._path, unpacked(path))
            if not index.exists():
                with self._path.open("rb") as file:
                    found = json.dumps(list(_places(file, path)))
                _write(index, [found.encode()])
            self._places = [Place(*each) for each in json.loads(index.read_bytes())]
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(f"{path} can't be indexed in {folder}: {error}") from error
        self.names = [place.name for place in self._places]
        self.lengths = [place.bases for place in self._places]
        self.faults = [None if length else "has no sequence" for length in self.lengths]
        self._whole = lru_cache(maxsize=1)(self._read_whole)  # windows of a record come in turn

    def fetch(self, number: int, start: int, stop: int) -> Record:
        """Return a stretch of a record.

        Raises:
            UnreadableError: the file is no longer what was indexed.
        """
        place = self._places[number]
        try:
            if not place.line:
                letters = self._whole(number)[start:stop]
            else:
                first, last = (
                    place.start + at // place.line * place.step + at % place.line
                    for at in (start, stop)
                )
                letters = self._read(first, last).translate(None, b"\r\n")
        except OSError as error:
            raise UnreadableError(f"{place.name} can't be read: {error}") from error
        if len(letters) != stop - start:
            raise UnreadableError(f"{place.name} can't be read: {self._path} has changed")
        return Record(place.name, place.description, letters)

    def _read_whole(self, number: int) -> bytes:
        return sequence_of(self._read(self._places[number].start, self._places[number].stop))

    def _read(self, start: int, stop: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def _write(path: Path, parts: "Iterator[bytes] | list[bytes]") -> None:
    """Write a file under its name only when it is whole: other processes may wait for it."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _places(file: BinaryIO, path: Path) -> Iterator[Place]:
    """Yield where the records of a FASTA file are.

    Raises:
        DataError: it is no FASTA file, or its lines end in carriage returns alone.
    """
    place = 0
    header: bytes | None = None
    lines = _Lines(0)
    for row in file:
        content = row.rstrip(b"\r\n")
        place += len(row)
        if b"\r" in content:
            raise DataError(
                f"{path}: a line ends in a carriage return alone: convert it, or raise in_memory"
            )
        if place == len(row):
            content = content.removeprefix(MARK)
        if content.startswith(b">"):
            if header is not None:
                yield lines.place(*header_of(header), place - len(row))
            header, lines = content[1:], _Lines(place)
        elif header is None:
            if content.strip() and not content.startswith(b";"):
                raise DataError(f"{path} is no FASTA file: it begins with {content[:20]!r}")
        else:
            lines.add(content, len(row))
    if header is None:
        raise DataError(f"{path} is empty")
    yield lines.place(*header_of(header), place)


class _Lines:
    """What is known of a record's lines so far."""

    def __init__(self, start: int):
        self.start = start
        self.bases = self.line = self.step = 0
        self.alike = True
        self.ended = False  # a shorter line has come, behind which there are no more

    def add(self, content: bytes, size: int) -> None:
        """Take in a line, and its size with its end."""
        letters = content
        if content.startswith(b";") or b" " in content or b"\t" in content:
            letters, self.alike = sequence_of(content), False
        self.bases += len(letters)
        if not self.line:
            self.alike &= not (letters and self.ended)  # a blank line before the first letters
            self.line, self.step = len(letters), size
            self.ended = not letters
            return
        if letters and self.ended:
            self.alike = False
        if len(letters) > self.line or (len(letters) == self.line and size > self.step):
            self.alike = False
        # The file's last line may lack its end, and any last line may be shorter.
        self.ended |= (len(letters), size) != (self.line, self.step)

    def place(self, name: str, description: str, stop: int) -> Place:
        """Return what was found, at the record's end."""
        line = self.line if self.alike else 0
        return Place(name, description, self.start, stop, self.bases, line, self.step)
