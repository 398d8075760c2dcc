"""Reading changes of code: a unified diff and the file it changes."""

from collections.abc import Mapping
from typing import Any

from polymodal import Reader, UnreadableError
from polymodal_code.hunks import Hunk, parse_patch
from polymodal_text import text_of


class DiffReader(Reader):
    """A `Hunk` from a patch, or from `{"patch": ..., "old_file": ...}`; see `parse_patch`.

    Args:
        words: that are enough; lines of the old file fill up to so many, and a hunk of more is cut
            at its ends.
        headers: False for patches that have lost them, "@@ -a,b +c,d @@": every line is the hunk's.
        line_break: what stands for the end of a line in the patch.

    Raises:
        ValueError: fewer than one word.
    """

    def __init__(self, *, words: int = 200, headers: bool = True, line_break: str = "\n"):
        if words < 1:
            raise ValueError(f"words must be 1 or more, got {words}")
        self.words = words
        self.headers = headers
        self.line_break = line_break

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths of the patch and of the old file."""
        if not isinstance(value, Mapping) or "patch" not in value:
            return super().paths_in(value)
        parts = (value["patch"], value.get("old_file"))
        return [path for part in parts for path in super(DiffReader, self).paths_in(part)]

    def __call__(self, value: Any) -> Hunk:
        """Return the hunk.

        Raises:
            UnreadableError: a value that is no text, or a patch without a header or lines.
        """
        parts = value if isinstance(value, Mapping) and "patch" in value else {"patch": value}
        patch, old_file = (
            text_of(part, from_file=False, encoding_errors="refuse")
            for part in (parts["patch"], "" if parts.get("old_file") is None else parts["old_file"])
        )
        patch, old_file = patch.replace(self.line_break, "\n"), old_file.replace("\r\n", "\n")
        try:
            return parse_patch(
                patch.replace("\r\n", "\n"), old_file, words=self.words, headers=self.headers
            )
        except ValueError as error:
            raise UnreadableError(str(error)) from error
