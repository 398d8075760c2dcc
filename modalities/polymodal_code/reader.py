"""Reading code: one form of line ends and indentation, everything else as it stands."""

import textwrap
from typing import Any, Literal

from polymodal import Reader
from polymodal_text import text_of


class CodeReader(Reader):
    r"""Code from a string, bytes, a file or `{"path", "bytes"}`.

    Line ends become "\n", blank lines at either end go, and spaces at the end of lines stay. Code
    without a visible character is read as it is; the tokenizer gives it no tokens.

    Args:
        from_file: strings are paths of source files, not code.
        dedent: take off the indentation that all lines share, as a method has it.
        encoding_errors: "refuse" skips a record that is not UTF-8 and reports the byte's place;
            "replace" puts U+FFFD in its stead.
    """

    def __init__(
        self,
        *,
        from_file: bool = False,
        dedent: bool = True,
        encoding_errors: Literal["refuse", "replace"] = "refuse",
    ):
        self.from_file = self.strings_are_paths = from_file
        self.dedent = dedent
        self.encoding_errors = encoding_errors

    def __call__(self, value: Any) -> str:
        """Return the code.

        Raises:
            UnreadableError: a missing file, bytes that are not UTF-8, a value that is no text.
        """
        text = text_of(value, from_file=self.from_file, encoding_errors=self.encoding_errors)
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        while lines and not lines[0].strip():
            del lines[0]
        while lines and not lines[-1].strip():
            del lines[-1]
        text = "\n".join(lines)
        return textwrap.dedent(text) if self.dedent else text
