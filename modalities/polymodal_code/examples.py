"""A small case of each component, for the conformance kit."""

from pathlib import Path

from polymodal.testing import Example
from polymodal_code.hunks import parse_patch

PIECES = (
    "def add(first, second):\n    return first + second\n",
    "for item in items:\n    print(item)\n",
    "x = 1\n",
    "class Empty:\n    pass\n",
)


PATCH = "@@ -2,4 +2,5 @@\n a = 1\n-b = 2\n+b = 3\n+c = 4\n \n d = 5"
OLD_FILE = "import os\na = 1\nb = 2\n\nd = 5\nprint(a)"


def _files(folder: Path) -> None:
    for number, piece in enumerate(PIECES):
        (folder / f"piece{number}.py").write_text(piece)


def examples() -> list[Example]:
    """Return pieces of Python."""
    learned = {"vocabulary_size": 300, "max_tokens": 32}
    pieces = list(PIECES)
    flow = {"vocabulary_size": 300, "max_tokens": 48, "max_nodes": 8, "max_text": 8}
    records: list[dict[str, str]] = [{"code": piece, "language": "python"} for piece in pieces]
    records.append({"text": "Twice the number.", "code": "x = 2 * x", "language": "ruby"})
    return [
        Example("code.files", "source", {"folder": "{folder}"}, prepare=_files),
        Example("code.package", "source", {"modules": ["json"]}),
        Example("code.text", "reader", values=[*pieces, pieces[0].encode()]),
        Example(
            "code.record", "reader",
            values=[*pieces, {"code": pieces[0], "text": "Add."}, {"text": "Print all."}],
        ),
        Example("code.bpe", "tokenizer", learned, raws=pieces),
        Example("code.dataflow", "tokenizer", flow, raws=records),
        Example(
            "code.transformer", "encoder",
            {"width": 32, "depth": 1, "heads": 2, "edges": "guide", "guided": ["node"],
             "averaged": ["node"], "pool": "first"},
            tokenizer={"use": "code.dataflow", **flow}, raws=records,
        ),
        Example("code.diff", "reader", values=[{"patch": PATCH, "old_file": OLD_FILE}, PATCH]),
        Example(
            "code.diff", "tokenizer", {"vocabulary_size": 400, "max_tokens": 64},
            raws=[parse_patch(PATCH, OLD_FILE), parse_patch(PATCH), "why not 4?"],
        ),
        Example(
            "code.transformer", "encoder", {"width": 32, "depth": 1, "heads": 2},
            tokenizer={"use": "code.bpe", **learned}, raws=pieces,
        ),
    ]  # fmt: skip
