"""Hunks of a unified diff: their lines with what became of each, and the old file around them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Change = Literal["delete", "add", "keep"]

_HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_CHANGES: dict[str, Change] = {"-": "delete", "+": "add"}


@dataclass(frozen=True)
class Hunk:
    """Lines of code, and what a change does to each: None for lines around the change."""

    lines: tuple[str, ...]
    changes: tuple[Change | None, ...]

    def __post_init__(self) -> None:
        if len(self.lines) != len(self.changes):
            raise ValueError(f"{len(self.lines)} lines with {len(self.changes)} changes")


def parse_patch(patch: str, old_file: str = "", *, words: int = 200, headers: bool = True) -> Hunk:
    r"""Return the changed lines of a unified diff, with lines of the old file before and after.

    Lines are stripped, and empty ones are dropped, as is "\ No newline at end of file". What stands
    outside of hunks, such as names of files, is passed over; the hunks of one patch follow each
    other. A header's missing count is 1. Lines of the old file are added before and after in turn,
    nearest first, until there are enough words (CodeReviewer's code, `ReviewExample`).

    Args:
        patch: hunks with their headers, "@@ -a,b +c,d @@".
        old_file: the file before the change; without it there is nothing around the hunk.
        words: separated by blanks, that are enough; a hunk of more is cut at its ends in turn. The
            signs + and - of changed lines are none.
        headers: False for a patch that has lost them: every line is the hunk's, and where it stands
            in the old file is not known.

    Raises:
        ValueError: no header, or no line that is not empty.
    """
    if not headers:
        count = patch.count("\n") + 1
        patch, old_file = f"@@ -1,{count} +1,{count} @@\n{patch}", ""
    rows: list[tuple[str, Change | None]] = []
    first = last = old_left = new_left = 0
    found = False
    for line in patch.split("\n"):
        if old_left > 0 or new_left > 0:
            if line.startswith("\\"):
                continue
            change = _CHANGES.get(line[:1], "keep")
            old_left -= change != "add"
            new_left -= change != "delete"
            text = line[1:] if change != "keep" else line
            rows.append((text.strip(), change))
        elif header := _HEADER.match(line):
            start, old_left, _, new_left = (int(n) if n else 1 for n in header.groups())
            before = start - 1 if old_left else start  # "-5,0": something new after line 5
            first = first if found else before
            last = before + old_left
            found = True
    if not found:
        raise ValueError(f"a patch has a header @@ -a,b +c,d @@, got {patch!r:.60}")
    rows = _cut([row for row in rows if row[0]], words)
    if not rows:
        raise ValueError("every line of the patch is empty")
    old = old_file.split("\n") if old_file else []
    before_rows = [text.strip() for text in old[:first] if text.strip()]
    after_rows = [text.strip() for text in old[last:] if text.strip()][::-1]
    count = sum(len(text.split()) for text, _ in rows)
    ahead = True
    while count < words and (before_rows or after_rows):
        source = before_rows if (ahead and before_rows) or not after_rows else after_rows
        text = source.pop()
        rows.insert(0 if source is before_rows else len(rows), (text, None))
        count += len(text.split())
        ahead = not ahead
    return Hunk(tuple(text for text, _ in rows), tuple(change for _, change in rows))


def _cut(rows: list[tuple[str, Change | None]], words: int) -> list[tuple[str, Change | None]]:
    return rows[within([len(text.split()) for text, _ in rows], words)]


def within(costs: Sequence[int], most: int) -> slice:
    """Return the middle of a list that costs at most so much, or one item.

    Items are dropped from the two ends in turn, the first one first.
    """
    start, stop, total = 0, len(costs), sum(costs)
    while total > most and stop - start > 1:
        if (start + len(costs) - stop) % 2 == 0:
            total -= costs[start]
            start += 1
        else:
            stop -= 1
            total -= costs[stop]
    return slice(start, stop)
