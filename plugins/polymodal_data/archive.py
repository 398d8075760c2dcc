"""What lies where in a tar, and its bytes at random; nothing is ever unpacked to a folder."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal import DataError, UnreadableError
from polymodal_data.files import fingerprint

IN_MEMORY = 64 * 2**20  # bytes up to which an unpacked tar stays in memory
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_CHUNK = 2**20


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class Archive:
    """A tar that can be read at any place: a file, or what was unpacked in memory."""

    path: Path  # as the user knows it
    content: bytes | Path  # plain tar
    damage: str | None = None  # why its end is missing, if it is

    @classmethod
    def open(cls, path: Path) -> "Archive":
        """Return a tar, made plain if it is compressed: in memory, or large ones in the cache.

        Raises:
            DataError: it can't be read at all, or is compressed by Zstandard.
        """
        try:
            with open(path, "rb") as file:
                magic = file.read(6)
        except OSError as error:
            raise DataError(f"{path} can't be read: {error.strerror or error}") from error
        if magic.startswith(_ZSTANDARD):
            raise DataError(f"{path}: Zstandard tars can't be read; unpack it with 'zstd -d'")
        opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), None)
        return cls(path, path) if opener is None else cls(path, *_unpacked(path, opener))

    @property
    def size(self) -> int:
        """How many bytes the plain tar has."""
        held = self.content
        return held.stat().st_size if isinstance(held, Path) else len(held)

    def members(self) -> tuple[list[Member], str | None]:
        """Return the regular files in their order, and why the end is missing, if it is.

        Symbolic links, devices and hidden files are left out; a hard link is the file it names.

        Raises:
            DataError: this is no tar.
        """
        held = self.content
        found: list[Member] = []
        places: dict[str, tuple[int, int]] = {}
        damage = self.damage
        with open(held, "rb") if isinstance(held, Path) else io.BytesIO(held) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    for each in tar:
                        hidden = any(part.startswith(".") for part in Path(each.name).parts)
                        if each.isreg() and not each.issparse() and not hidden:
                            name = each.name.removeprefix("./")
                            found.append(Member(name, each.offset_data, each.size))
                        elif each.islnk() and not hidden:  # a file packed under another name, too
                            name, to = (n.removeprefix("./") for n in (each.name, each.linkname))
                            if to in places:
                                found.append(Member(name, *places[to]))
                            continue
                        places[each.name.removeprefix("./")] = (each.offset_data, each.size)
            except tarfile.TarError as error:
                if not found:
                    raise DataError(
                        f"{self.path} is no tar that can be read: {damage or error}"
                    ) from error
                damage = damage or str(error)
        return found, damage

    def read(self, offset: int, size: int, name: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            UnreadableError: they are not all there.
        """
        held = self.content
        if isinstance(held, Path):
            try:
                with open(held, "rb") as file:
                    file.seek(offset)
                    found = file.read(size)
            except OSError as error:
                raise UnreadableError(f"{self.path}: {error.strerror or error}") from error
        else:
            found = held[offset : offset + size]
        if len(found) != size:
            raise UnreadableError(
                f"{name} is cut short: {self.path.name} has {len(found)} of its {size} bytes"
            )
        return found


def _unpacked(path: Path, opener: Any) -> tuple[bytes | Path, str | None]:
    """Return the plain tar of a compressed one, and why its end is missing, if it is."""
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE) / "polymodal"
    cached = folder / f"{fingerprint([path], 'tar')}.tar"
    if cached.is_file():
        return cached, None
    head = io.BytesIO()
    damage = None
    with opener(path, "rb") as content:
        try:
            # read1 hands out what it has before it finds the end missing; read would lose it
            while head.tell() <= IN_MEMORY and (chunk := content.read1(_CHUNK)):
                head.write(chunk)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            damage = f"{path.name} is damaged or cut short: {error}"
        if damage or head.tell() <= IN_MEMORY:
            return head.getvalue(), damage
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        except OSError as error:
            raise DataError(
                f"{path} is too large to unpack in memory, and {folder} can't be written to: "
                f"{error.strerror or error}; set HF_DATASETS_CACHE to another folder"
            ) from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(head.getvalue())
                while chunk := content.read(_CHUNK):
                    file.write(chunk)
            os.replace(name, cached)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is damaged or cut short: {error}; fetch it again") from error
        finally:
            Path(name).unlink(missing_ok=True)
    return cached, None
