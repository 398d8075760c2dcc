"""A small case of each component, for the conformance kit."""

import io
import tarfile
from pathlib import Path
from typing import Any

from polymodal.testing import Example

ROWS: tuple[dict[str, Any], ...] = (
    {"name": "first", "size": 1, "share": 0.5},
    {"name": "second", "size": 2, "share": 0.25},
    {"name": "third", "size": 3, "share": 0.0},
)


def _table(folder: Path) -> None:
    lines = [f"{row['name']},{row['size']},{row['share']}\n" for row in ROWS]
    (folder / "rows.csv").write_text("name,size,share\n" + "".join(lines))


def _texts(folder: Path) -> None:
    (folder / "lines.txt").write_text("a first line\na second\n\na third\n")


def _pages(folder: Path) -> None:
    (folder / "page.txt").write_text("See https://a.org/b?c=1 (and http://www.a.org/d).\n")


def _media(folder: Path) -> None:
    for number, row in enumerate(ROWS):
        (folder / f"{row['name']}.png").write_bytes(bytes([number]) * 8)


def _tar(folder: Path) -> None:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for number, row in enumerate(ROWS):
            for ending, content in (("png", bytes([number]) * 8), ("txt", b"a caption")):
                member = tarfile.TarInfo(f"{row['name']}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _hub(folder: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(list(ROWS)).save_to_disk(str(folder / "saved"))


def examples() -> list[Example]:
    """Return a few rows in every kind of file."""
    return [
        Example("data.table", "source", {"path": "{folder}/rows.csv"}, prepare=_table),
        Example("data.text", "source", {"path": "{folder}/lines.txt"}, prepare=_texts),
        Example("data.addresses", "source", {"path": "{folder}/page.txt"}, prepare=_pages),
        Example("data.folder", "source", {"folder": "{folder}"}, prepare=_media),
        Example("data.tar", "source", {"path": "{folder}/shard.tar"}, prepare=_tar),
        Example("data.hub", "source", {"name": "{folder}/saved"}, prepare=_hub),
        Example("data.memory", "source", {"rows": list(ROWS)}),
    ]
