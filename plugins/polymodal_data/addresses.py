"""The web addresses that stand in text files."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

from polymodal import FilePath, FolderPath, find_files
from polymodal_data.columns import Columns
from polymodal_data.lines import text_lines
from polymodal_data.stored import Record, StoredRows, StoredSource, store, write_records

# What ends an address in prose, markup and JSON. Brackets are looked at afterwards.
_ADDRESS = re.compile(r"""https?://([^\s<>"'`|\\^{}\[\]/?#]+)([^\s<>"'`|\\^{}\[\]]*)""")


class Addresses(StoredSource):
    """Each web address in some text files once, in order: of prose, markup, JSON lines or a log.

    Marks of the sentence around an address do not belong to it. Fields: `url`, `site` (its host
    in lower case without "www." and port; missing for a site with few addresses), `path` (what
    follows the host, query and fragment included; missing if that is nothing), and `page` (site
    and path without query and fragment: rows with one page should stay in one split).

    Args:
        path: a file, a glob such as "pages/*.html", or a list of these; `.gz` too.
        least: a site with fewer addresses is no `site`.
        allow: folders that links which a glob finds may lead to, beside their own.

    Raises:
        ValueError: no file is named.
    """

    columns_from_data = False

    def __init__(
        self,
        *,
        path: FilePath | list[FilePath],
        least: int = 1,
        allow: list[FolderPath] | None = None,
    ):
        if not path:
            raise ValueError("path must name at least one file")
        self.path = [path] if isinstance(path, str) else list(path)
        self.least = least
        self.allow = tuple(allow or ())

    @cached_property
    def _found(self) -> list[Path]:
        return find_files(self.path, allow=self.allow)

    def _inputs(self) -> list[tuple[str, Path]]:
        return [(path.name, path) for path in self._found]

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("url", "site", "path", "page")

    def _store(self) -> StoredRows:
        found = self._found
        write = partial(write_records, read=partial(self._records, found), columns=Columns())
        return store(found, write, "addresses", self.least)

    def _records(self, paths: list[Path]) -> Iterator[Record]:
        found: dict[str, tuple[str, str]] = {}
        for file in paths:
            for line in text_lines(file):
                for match in _ADDRESS.finditer(line):
                    url = _bare(match[0])
                    host = match[1].lower().partition(":")[0].removeprefix("www.")
                    found[url] = (host.rstrip(".,;!*_)"), url[match.start(2) - match.start() :])
        common = Counter(site for site, _ in found.values())
        for url, (site, rest) in found.items():
            yield {
                "url": url,
                "site": site if common[site] >= self.least else None,
                "path": rest.lstrip("/") or None,
                "page": site + re.split(r"[?#]", rest)[0],
            }


def _bare(url: str) -> str:
    """Return an address without the sentence's marks at its end."""
    while url[-1] in ".,;:!?*_" or (url[-1] == ")" and url.count(")") > url.count("(")):
        url = url[:-1]
    return url
