"""Media files below a folder."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from polymodal import DataError, FolderPath, find_folder
from polymodal_data.columns import Columns
from polymodal_data.metadata import MEDIA, NAMES, is_text, joined
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records


class Folder(StoredSource):
    """Media files, by name, or the lines of a metadata table that names them.

    Without a table: `file` (its path), `name` (below the folder), `label` (the folder it lies in,
    None at the top). With `metadata.csv`, `.tsv` or `.jsonl` in the folder, its lines are the
    rows, in their order, and bring `file` and their own columns; `file_name` tells the file, which
    must lie below the folder. A file that is not there makes an unreadable row. Hidden files are
    passed over. A file's content is read when its row is.

    Args:
        folder: where to look, subfolders included.
        extensions: of files to take when there is no table; those of images, sound and video by
            default. A leading dot may be left out.

    Raises:
        ValueError: no extensions.
    """

    def __init__(self, *, folder: FolderPath, extensions: list[str] | None = None):
        if extensions is not None and not extensions:
            raise ValueError("extensions must name at least one, or be left out")
        self.folder = folder
        self.extensions = tuple(
            "." + name.lstrip(".").lower() for name in (MEDIA if extensions is None else extensions)
        )

    def _store(self) -> StoredRows:
        top = find_folder(self.folder)
        table = next((top / name for name in NAMES if (top / name).is_file()), None)
        # The listing is the input, so nothing is cached: a new file would not be noticed.
        read = partial(self._files, top) if table is None else partial(_joined, table, top)
        columns = Columns(text=table is not None and is_text(table))
        return store([], partial(write_records, read=read, columns=columns))

    def _files(self, top: Path) -> Iterator[Record]:
        seen: set[str] = set()
        found = []
        for path in top.rglob("*"):
            below = path.relative_to(top)
            if any(part.startswith(".") for part in below.parts) or not path.is_file():
                continue
            seen.add(path.suffix.lower())
            if path.suffix.lower() in self.extensions:
                found.append((below.as_posix(), path))
        if not found:
            there = f" It has {', '.join(sorted(seen - {''})[:10])}." if seen - {""} else ""
            raise DataError(
                f"{self.folder} has no file ending in {', '.join(self.extensions)}.{there}"
            )
        for name, path in sorted(found):
            label = path.parent.name if path.parent != top else None
            yield {"file": str(path), "name": name, "label": label}


def _joined(table: Path, top: Path) -> Iterator[Record]:
    inside = top.resolve()

    def find(name: str) -> dict[str, Any] | str:
        path = top / name
        if not path.resolve().is_relative_to(inside):
            return f"{name} lies outside the folder"
        return {"file": str(path)} if path.is_file() else f"{name}: no such file"

    return joined(table, find)
