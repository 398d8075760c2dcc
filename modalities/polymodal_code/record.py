"""Reading a function with what belongs to it: its language, and a text about it."""

from collections.abc import Mapping
from typing import Any

from polymodal import Reader, UnreadableError
from polymodal_code.reader import CodeReader
from polymodal_text import text_of

_KEYS = ("code", "language", "text")


class RecordReader(Reader):
    """A function as `{"code", "language", "text"}`, each of them a string or missing.

    Reads such a mapping, or code alone. The language is in lower case.

    Args:
        language: of code that does not say.
        from_file: a string is the path of a file of code, not the code.
    """

    def __init__(self, *, language: str = "python", from_file: bool = False):
        self.language = language
        self.code = CodeReader(from_file=from_file)

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths of the code and of the text."""
        if not isinstance(value, Mapping) or not set(_KEYS) & set(value):
            return self.code.paths_in(value)
        return [*self.code.paths_in(value.get("code")), *super().paths_in(value.get("text"))]

    def __call__(self, value: Any) -> dict[str, str]:
        """Return what the record holds.

        Raises:
            UnreadableError: code or text that can't be read, or a mapping with none of the keys.
        """
        if not isinstance(value, Mapping) or not set(_KEYS) & set(value):
            return {"code": self.code(value), "language": self.language}
        found = {"language": str(value.get("language") or self.language).lower()}
        if value.get("code") is not None:
            found["code"] = self.code(value["code"])
        if value.get("text") is not None:
            found["text"] = text_of(value["text"], from_file=False, encoding_errors="refuse")
        if len(found) == 1:
            raise UnreadableError("a record of code needs code or a text, but both are null")
        return found
