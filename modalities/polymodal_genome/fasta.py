"""Sequences of FASTA and FASTQ files as rows: whole records, windows side by side, or drawn."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polymodal import (
    DataError,
    FilePath,
    FolderPath,
    Source,
    UnreadableError,
    find_files,
    fingerprint_files,
)
from polymodal_genome.indexed import Indexed
from polymodal_genome.letters import check_letters
from polymodal_genome.records import GZIP, InMemory, Records, TooLargeError, unpacked


class Fasta(Source):
    """Rows of FASTA or FASTQ files, plain or gzip, told by their content.

    A row is a whole record; with `window`, a window of one, every `stride` bases, the last one
    reaching the record's end; with `windows`, one drawn at random (row i is the same each time)
    from all places a window fits. Records shorter than the window are one row each, drawn windows
    pass them over. A broken record (empty, cut off) is one unreadable row, behind the rows of
    windows drawn; so is a row with a letter that is no nucleotide code.

    Fields: `sequence` (case kept), `name`, `description`, `start` (from 0), `file` (its name) and
    for FASTQ `quality` (Phred scores).

    Args:
        files: paths, with * and ? if you like, in order.
        window: bases of a row; None: whole records.
        stride: bases from one window to the next; None: a window.
        windows: draw so many windows in place of cutting all.
        seed: of the windows drawn.
        duplicates: records of the same name get a number ("chr1#2"), or are refused.
        in_memory: bytes of the largest file to hold in memory, unpacked size estimated at four
            times a gzip file's; larger FASTA files are read through an index on disk, gzip files
            from an unpacked copy beside it. A file that unpacks to over 100 times its size (and
            over 1 GiB) is refused.
        index_folder: where such indexes and copies go; None: the system's temporary folder.
        allow: folders that links which a glob finds may lead to, beside their own.

    Raises:
        ValueError: options that contradict each other.
        DataError: from the first use, a missing or foreign file, a name twice where refused.
    """

    def __init__(
        self,
        *,
        files: Sequence[FilePath],
        window: int | None = None,
        stride: int | None = None,
        windows: int | None = None,
        seed: int = 0,
        duplicates: Literal["number", "refuse"] = "number",
        in_memory: int = 1_000_000_000,
        index_folder: str | None = None,
        allow: Sequence[FolderPath] = (),
    ):
        self.files = (files,) if isinstance(files, str) else tuple(files)
        if not self.files:
            raise ValueError("files must name at least one file")
        for name, value in (("window", window), ("stride", stride), ("windows", windows)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if window is None and (stride is not None or windows is not None):
            raise ValueError("stride and windows need window, the bases of each")
        if stride is not None and windows is not None:
            raise ValueError("give stride (windows side by side) or windows (drawn), not both")
        self.window = window
        self.stride = stride or window
        self.windows = windows
        self.seed = seed
        self.duplicates = duplicates
        self.in_memory = in_memory
        self.index_folder = index_folder
        self.allow = tuple(allow)

    def __getstate__(self) -> dict[str, Any]:
        # Sequences and open files stay behind: another process reads them for itself.
        return {k: v for k, v in self.__dict__.items() if k != "_catalogue"}

    @cached_property
    def _catalogue(self) -> "_Catalogue":
        paths = find_files(self.files, allow=self.allow)
        opened = [self._open(path) for path in paths]
        return _Catalogue.of(paths, opened, self)

    def _open(self, path: Path) -> Records:
        with path.open("rb") as file:
            begin = file.read(2)
        size = path.stat().st_size * (4 if begin == GZIP else 1)
        if size <= self.in_memory:
            try:
                return InMemory(path, self.in_memory)
            except TooLargeError:
                pass
        folder = None if self.index_folder is None else Path(self.index_folder)
        try:
            first = next(unpacked(path), b"")[:1] if begin == GZIP else begin[:1]
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is no whole gzip file: {error}") from error
        if first == b"@":
            raise DataError(
                f"{path} is too large to hold in memory ({size} bytes), and only FASTA files can "
                "be read from disk: split it, or raise in_memory"
            )
        return Indexed(path, folder)

    def __len__(self) -> int:
        catalogue = self._catalogue
        return catalogue.rows + (len(catalogue.broken) if self.windows is not None else 0)

    def fingerprint(self) -> str:
        """Return a name for the data: from its files' names, sizes and content."""
        files = find_files(self.files, allow=self.allow)
        return fingerprint_files((path.name, path) for path in files)

    def columns(self) -> tuple[str, ...]:
        """Return the fields a row can have."""
        return ("sequence", "name", "description", "start", "file", "quality")

    def row(self, index: int) -> dict[str, Any]:
        """Return one record or window.

        Raises:
            UnreadableError: a record that is empty or cut off, a letter that is no nucleotide code.
        """
        catalogue = self._catalogue
        record, start = self._place(index)
        file, number = catalogue.where[record]
        name = catalogue.names[record]
        path = catalogue.paths[file]
        fault = catalogue.files[file].faults[number]
        if fault is not None:
            raise UnreadableError(f"{path.name}: record {name!r} {fault}")
        length = int(catalogue.lengths[record])
        stop = length if self.window is None else min(start + self.window, length)
        found = catalogue.files[file].fetch(number, start, stop)
        check_letters(found.sequence, where=f"{path.name}: record {name!r}", start=start)
        row: dict[str, Any] = {
            "sequence": found.sequence.decode("ascii"),
            "name": name,
            "description": found.description,
            "start": start,
            "file": path.name,
        }
        if found.quality is not None:
            row["quality"] = found.quality
        return row

    def _place(self, index: int) -> tuple[int, int]:
        """Return the record and the first base of a row."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        catalogue = self._catalogue
        if self.windows is not None:
            if index >= self.windows:
                return catalogue.broken[index - self.windows], 0
            drawn = np.random.default_rng([self.seed, index]).integers(catalogue.stops[-1])
            record = int(np.searchsorted(catalogue.stops, drawn, side="right"))
            return record, int(drawn - catalogue.stops[record] + catalogue.counts[record])
        record = int(np.searchsorted(catalogue.stops, index, side="right"))
        if self.window is None:
            return record, 0
        assert self.stride is not None
        step = index - int(catalogue.stops[record] - catalogue.counts[record])
        last = max(int(catalogue.lengths[record]) - self.window, 0)
        return record, min(step * self.stride, last)


@dataclass(frozen=True)
class _Catalogue:
    """Where the rows are: `counts` rows (or places to draw from) a record, `stops` their sum."""

    paths: list[Path]
    files: list[Records]
    where: list[tuple[int, int]]  # file and number in it, of each record
    names: list[str]
    lengths: np.ndarray
    counts: np.ndarray
    stops: np.ndarray
    broken: list[int]
    rows: int

    @classmethod
    def of(cls, paths: list[Path], files: list[Records], source: Fasta) -> "_Catalogue":
        """Number the records of all files, and count their rows."""
        where = [(f, number) for f, each in enumerate(files) for number in range(len(each.names))]
        names = _told_apart([name for each in files for name in each.names], source.duplicates)
        lengths = np.array([n for each in files for n in each.lengths], np.int64)
        faulty = np.array([x is not None for each in files for x in each.faults], bool)
        broken = np.flatnonzero(faulty).tolist()
        if source.window is None:
            counts = np.ones(len(lengths), np.int64)
        elif source.windows is not None:
            counts = np.where(faulty, 0, np.maximum(lengths - source.window + 1, 0))
            if not counts.sum():
                raise DataError(f"no record has the {source.window} bases of a window")
        else:
            steps = -(-np.maximum(lengths - source.window, 0) // source.stride) + 1
            counts = np.where(faulty, 1, steps)
        stops = np.cumsum(counts)
        rows = int(stops[-1]) if source.windows is None else source.windows
        return cls(paths, files, where, names, lengths, counts, stops, broken, rows)


def _told_apart(names: list[str], duplicates: str) -> list[str]:
    """Number the second and further records of a name.

    Raises:
        DataError: a name twice, where `duplicates` is "refuse".
    """
    seen: Counter[str] = Counter()
    told = []
    for name in names:
        seen[name] += 1
        if seen[name] > 1 and duplicates == "refuse":
            raise DataError(
                f"two records are called {name!r}. Rename one, or set duplicates: number"
            )
        told.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return told
