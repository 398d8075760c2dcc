"""Source files below a folder."""

from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from polymodal import DataError, FolderPath, Source, UnreadableError, confine, fingerprint_files

# What an extension says about the language; files of other extensions have none.
LANGUAGES = {
    ".c": "c", ".cc": "c++", ".cpp": "c++", ".cs": "c#", ".go": "go", ".h": "c", ".hpp": "c++",
    ".java": "java", ".js": "javascript", ".jl": "julia", ".kt": "kotlin", ".lua": "lua",
    ".php": "php", ".pl": "perl", ".py": "python", ".r": "r", ".rb": "ruby", ".rs": "rust",
    ".scala": "scala", ".sh": "shell", ".sql": "sql", ".swift": "swift", ".ts": "typescript",
}  # fmt: skip


class CodeFiles(Source):
    """One row a file, by path: `code` (bytes), `path` (below the folder), `language`.

    Hidden folders are passed over.

    Args:
        folder: where to look, subfolders included.
        extensions: which files to take; a leading dot may be left out.
        exclude: patterns of paths below the folder to leave out, such as "*/tests/*".
        max_bytes: a larger file is an unreadable row.
        allow: folders that links to files may lead to, beside the folder itself.

    Raises:
        ValueError: no extensions.
    """

    def __init__(
        self,
        *,
        folder: FolderPath,
        extensions: Sequence[str] = (".py",),
        exclude: Sequence[str] = (),
        max_bytes: int = 1_000_000,
        allow: Sequence[FolderPath] = (),
    ):
        if not extensions:
            raise ValueError("extensions must name at least one, for example .py")
        self.folder = folder
        self.extensions = tuple("." + name.lstrip(".").lower() for name in extensions)
        self.exclude = tuple(exclude)
        self.max_bytes = max_bytes
        self.allow = tuple(allow)

    @cached_property
    def _paths(self) -> list[str]:
        top = Path(self.folder).expanduser()
        if not top.is_dir():
            raise DataError(f"there is no folder {self.folder}")
        found = []
        for path in top.rglob("*"):
            below = path.relative_to(top)
            if path.suffix.lower() not in self.extensions or not path.is_file():
                continue
            if any(part.startswith(".") for part in below.parts):
                continue
            if any(fnmatch(below.as_posix(), pattern) for pattern in self.exclude):
                continue
            found.append(below.as_posix())
        if not found:
            raise DataError(f"{self.folder} has no file ending in {', '.join(self.extensions)}")
        return sorted(found)

    def __len__(self) -> int:
        return len(self._paths)

    def fingerprint(self) -> str:
        """Return a name for the data: from its files' names, sizes and content."""
        top = Path(self.folder).expanduser()
        return fingerprint_files((name, top / name) for name in self._paths)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("code", "path", "language")

    def row(self, index: int) -> dict[str, Any]:
        """Return one file's content, for `code.text` to decode.

        Raises:
            UnreadableError: the file is too large, can't be opened, or is a link that leads out.
        """
        name = self._paths[index]
        path = Path(self.folder).expanduser() / name
        confine(path, [self.folder, *self.allow])
        try:
            size = path.stat().st_size
            if size > self.max_bytes:
                raise UnreadableError(f"{name} has {size} bytes, more than max_bytes")
            content = path.read_bytes()
        except OSError as error:
            raise UnreadableError(f"{name} can't be read: {error.strerror or error}") from error
        return {"code": content, "path": name, "language": LANGUAGES.get(path.suffix.lower())}
