"""Media files below a folder."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from polymodal import DataError, FolderPath, UnreadableError, confine, find_folder
from polymodal_data.columns import Columns
from polymodal_data.metadata import MEDIA, NAMES, is_text, joined, one_spelling
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records


class Folder(StoredSource):
    """Media files, by name, or the lines of a metadata table that names them.

    Without a table: `file` (its path), `name` (below the folder), `label` (the folder it lies in,
    None at the top). With `metadata.csv`, `.tsv` or `.jsonl` in the folder, its lines are the
    rows, in their order, and bring `file` and their own columns; `file_name` tells the file, which
    must lie below the folder. A file that is not there, or a link that leads elsewhere, makes an
    unreadable row. Hidden files are passed over. A file's content is read when its row is.

    Args:
        folder: where to look, subfolders included.
        extensions: of files to take when there is no table; those of images, sound and video by
            default. A leading dot may be left out; jpg takes jpeg, too, and so on.
        allow: further folders that links, and names in the table, may lead to.

    Raises:
        ValueError: no extensions.
    """

    def __init__(
        self,
        *,
        folder: FolderPath,
        extensions: list[str] | None = None,
        allow: list[FolderPath] | None = None,
    ):
        if extensions is not None and not extensions:
            raise ValueError("extensions must name at least one, or be left out")
        self.folder = folder
        self.allow = tuple(allow or ())
        names = MEDIA if extensions is None else extensions
        self.extensions = tuple(one_spelling("." + name.lstrip(".")) for name in names)

    finished = ("file",)

    def folders(self) -> list[str]:
        """Return the folder, and those allowed."""
        return [self.folder, *self.allow]

    def _finish(self, row: dict[str, Any]) -> dict[str, Any]:
        confine(row["file"], self.folders())
        return row

    def _inputs(self) -> Iterator[tuple[str, Path]]:
        top = find_folder(self.folder)
        for name in NAMES:
            if (top / name).is_file():
                yield name, top / name
        for file in self._stored.column("file"):
            if file is not None:
                yield os.path.relpath(file, top), Path(file)

    def _store(self) -> StoredRows:
        top = find_folder(self.folder)
        table = next((top / name for name in NAMES if (top / name).is_file()), None)
        # The listing is the input, so nothing is cached: a new file would not be noticed.
        read = partial(self._files, top) if table is None else partial(self._joined, table, top)
        columns = Columns(text=table is not None and is_text(table))
        return store([], partial(write_records, read=read, columns=columns))

    def _files(self, top: Path) -> Iterator[Record]:
        seen: set[str] = set()
        found = []
        for path in self._below(top):
            below = path.relative_to(top)
            seen.add(path.suffix.lower())
            if one_spelling(path.suffix) in self.extensions:
                found.append((below.as_posix(), path))
        if not found:
            there = f" It has {', '.join(sorted(seen - {''})[:10])}." if seen - {""} else ""
            raise DataError(
                f"{self.folder} has no file ending in {', '.join(self.extensions)}.{there}"
            )
        for name, path in sorted(found):
            label = path.parent.name if path.parent != top else None
            yield {"file": str(path), "name": name, "label": label}

    def _below(self, top: Path) -> Iterator[Path]:
        """Yield the files that are not hidden, links to folders followed where they may lead.

        Raises:
            DataError: a link to a folder elsewhere.
        """
        seen = {os.path.realpath(top)}
        for folder, below, names in os.walk(top, followlinks=True):
            kept = []
            for name in sorted(below):
                path = os.path.join(folder, name)
                if name.startswith("."):
                    continue
                if os.path.islink(path):
                    try:
                        confine(path, self.folders())
                    except UnreadableError as error:
                        raise DataError(f"{error}, or take the link away") from None
                    real = os.path.realpath(path)
                    if any(real == each or real.startswith(each + os.sep) for each in seen):
                        continue  # what it leads to is there already
                    seen.add(real)
                kept.append(name)
            below[:] = kept
            for name in names:
                path = os.path.join(folder, name)
                if not name.startswith(".") and os.path.isfile(path):
                    yield Path(path)

    def _joined(self, table: Path, top: Path) -> Iterator[Record]:
        def find(name: str) -> dict[str, Any] | str:
            path = top / name
            try:
                confine(path, self.folders())
                there = path.is_file()
            except UnreadableError as error:
                return f"{name} lies outside the folder: {error}"
            return {"file": str(path)} if there else f"{name}: no such file"

        return joined(table, find)
