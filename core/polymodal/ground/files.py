"""Finding the files and folders a config names."""

import glob
from collections.abc import Sequence
from pathlib import Path

from polymodal.ground.errors import DataError, nearest


def find_files(patterns: str | Sequence[str]) -> list[Path]:
    """Return the files of paths and globs (`**` too), in the order given, a glob's by name.

    Raises:
        DataError: a path that is no file, with the nearest name beside it, or a glob without match.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        if path.is_file():
            found[path] = None
        elif path.is_dir():
            raise DataError(f"{pattern} is a folder; name its files, for example {pattern}/*.csv")
        elif glob.has_magic(str(path)):
            matches = sorted(glob.glob(str(path), recursive=True))
            files = [Path(match) for match in matches if Path(match).is_file()]
            if not files:
                raise DataError(f"no file matches {pattern}")
            found.update(dict.fromkeys(files))
        else:
            raise DataError(f"{pattern}: no such file.{_beside(path)}")
    return list(found)


def find_folder(name: str) -> Path:
    """Return an existing folder.

    Raises:
        DataError: there is none, with the nearest name beside it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        raise DataError(f"{name} is a file, not a folder")
    if not path.is_dir():
        raise DataError(f"{name}: no such folder.{_beside(path)}")
    return path


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Nor is there a folder {path.parent}."
    return nearest(path.name, [other.name for other in path.parent.iterdir()])
