"""numpy's files, read only where their headers tell of no more than is there."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from jaxtyping import Shaped

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(path: str | Path) -> Shaped[np.ndarray, "..."]:
    """Return the array of an .npy file.

    Raises:
        ValueError: in one line what the file is instead: damaged, cut off, several arrays, objects.
        OSError: it can't be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise ValueError("it holds several arrays; save each as its own .npy file")
        file.seek(0)
        _check(file, path.stat().st_size)
        file.seek(0)
        return _array(file)


def read_npz(path: str | Path, *, max_bytes: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the arrays of an .npz file by name.

    Args:
        path: of the file.
        max_bytes: refuse one that unpacks to more, before anything is unpacked.

    Raises:
        ValueError: in one line what the file is instead: damaged, cut off, too large, objects.
        OSError: it can't be opened.
    """
    with Path(path).open("rb") as file:
        return dict(_members(file, max_bytes))


def _members(file: BinaryIO, max_bytes: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)  # zipfile gives no byte more
            if size > max_bytes:
                raise ValueError(f"it unpacks to {size} bytes, more than max_bytes, {max_bytes}")
            for member in members:
                with archive.open(member) as part:
                    _check(cast(BinaryIO, part), member.file_size)
                with archive.open(member) as part:
                    yield member.filename.removesuffix(".npy"), _array(cast(BinaryIO, part))
    except (ValueError, OSError):
        raise
    except Exception as error:  # zipfile, zlib, struct and others, for damage of any kind
        raise ValueError(_line(error)) from None


def _check(file: BinaryIO, size: int) -> None:
    """Refuse an array whose header claims more than `size` bytes, or Python objects.

    Raises:
        ValueError: it does, or is no header.
    """
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
    except Exception as error:  # the header is Python's own syntax: its errors are of many kinds
        raise ValueError(f"its header can't be read: {_line(error)}") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its header claims {dtype} {list(shape)}, but it has {size} bytes")


def _array(file: BinaryIO) -> np.ndarray:
    try:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:
        raise ValueError(_line(error)) from None
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
