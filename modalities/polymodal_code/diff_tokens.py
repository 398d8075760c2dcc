"""Changes of code as subwords, a tag before each changed line (CodeReviewer: Li et al., 2022)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch

from polymodal import FilePath, Layout, Tokens, TokenSpec, UnreadableError
from polymodal_code.byte_pairs import CodeBytePairs
from polymodal_code.hunks import Change, Hunk, within

KINDS = ("content", "special", "tag")
CHANGES: tuple[Change, ...] = ("delete", "add", "keep")
_CONTENT, _SPECIAL, _TAG = range(3)

Row = tuple[int, int, int, int]  # id, kind, word, line


class DiffTokenizer(CodeBytePairs):
    """Byte-level BPE over hunks and, with the same vocabulary, over plain text such as comments.

    A hunk is its lines, end to end. Before each changed line stands its tag (roles "delete",
    "add" and "keep"; kind "tag"), and marks stand around all of them (roles "hunk_begin" and
    "hunk_end"). The channel "line" numbers the lines of a segment from 0; tags belong to their
    line, begin, end and marks to none (-1). A hunk that is too long loses lines at its two ends in
    turn. The role "message" is for a decoder to start a comment from. It decodes to hunks.

    Args:
        vocabulary_size: ids, special ones and the 256 bytes included; None: the file's, or 8,000.
        file: a tokenizer.json, or a vocab.json with its merges.txt, in place of learning.
        max_tokens: of a segment, all marks included.
        mark_ends: put begin and end tokens around each segment.
        sentinels: ids that stand for what is cut out of a segment.

    Raises:
        ValueError: a vocabulary too small for the bytes.
    """

    reader = "code.diff"
    marks = (*CHANGES, "hunk_begin", "hunk_end", "message")

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: FilePath | None = None,
        max_tokens: int = 512,
        mark_ends: bool = True,
        sentinels: int = 100,
    ):
        super().__init__(
            vocabulary_size=vocabulary_size, file=file, max_tokens=max_tokens, mark_ends=mark_ends,
            sentinels=sentinels,
        )  # fmt: skip
        if max_tokens < 6:  # begin, hunk_begin, tag, a token, hunk_end, end
            raise ValueError(f"max_tokens must be at least 6, got {max_tokens}")

    @cached_property
    def spec(self) -> TokenSpec:  # type: ignore[override]
        """Ids on one position axis; tags and special tokens have kinds of their own."""
        return replace(super().spec, kinds=KINDS, structure=("word", "line"))

    def check(self, raw: Any) -> None:
        """Refuse what is neither a hunk nor a string.

        Raises:
            UnreadableError: why.
        """
        if not isinstance(raw, Hunk | str | None):
            raise UnreadableError(f"code.diff takes hunks and strings, got {type(raw).__name__}")

    def texts(self, raw: Hunk | str) -> Iterable[str]:
        """Return the lines of a hunk, or the text."""
        return raw.lines if isinstance(raw, Hunk) else (raw,)

    def encode(
        self,
        raws: Sequence[Hunk | str | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a hunk or text; None and text without content have no tokens."""
        lines = [() if raw is None else tuple(self.texts(raw)) for raw in raws]
        encodings = iter(
            self._engine.encode_batch(list(chain.from_iterable(lines)), add_special_tokens=False)
        )
        rows: list[Row] = []
        lengths, cut = [], []
        for raw, texts in zip(raws, lines, strict=True):
            pieces = [(next(encodings), text.strip()) for text in texts]
            found = [(encoding.ids, encoding.word_ids) for encoding, content in pieces if content]
            changes = raw.changes if isinstance(raw, Hunk) else (None,) * len(found)
            segment = self._segment(found, changes)
            rows += segment
            lengths.append(len(segment))
            held = sum(kind == _CONTENT for _, kind, _, _ in segment)
            cut.append(held < sum(len(ids) for ids, _ in found))
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        ids, kinds, words, line_of = (torch.from_numpy(column.copy()) for column in table.T)
        layout = Layout.of(lengths, kinds=kinds, channels={"word": words, "line": line_of})
        return Tokens(layout, ids=ids, cut=tuple(cut))

    def _segment(
        self, pieces: Sequence[tuple[list[int], list[int | None]]], changes: Sequence[str | None]
    ) -> list[Row]:
        """Return the rows of a segment, of its lines' ids and words and what became of each."""
        if not pieces:
            return []
        special = self.special
        around = [special[role] for role in ("begin", "end") if self.mark_ends and role in special]
        marked = any(changes)
        room = self.max_tokens - len(around) - 2 * marked
        costs = [len(ids) + bool(change) for (ids, _), change in zip(pieces, changes, strict=True)]
        kept = within(costs, room)
        pieces, changes = pieces[kept], changes[kept]
        labelled = [number for number, change in enumerate(changes) if change]
        rows: list[Row] = []

        def add(id_: int, kind: int, word: int | None = None, line: int = -1) -> None:
            last = rows[-1][2] if rows else -1
            rows.append((id_, kind, last + 1 if word is None else word, line))

        if self.mark_ends and "begin" in special:
            add(special["begin"], _SPECIAL)
        for number, ((ids, words), change) in enumerate(zip(pieces, changes, strict=True)):
            if labelled and number == labelled[0]:
                add(special["hunk_begin"], _SPECIAL)
            if change:
                add(special[change], _TAG, line=number)
            first = rows[-1][2] + 1 if rows else 0
            limit = room - bool(change)
            for id_, word in zip(ids[:limit], words[:limit], strict=True):
                add(id_, _CONTENT, first + (word or 0), number)
            if labelled and number == labelled[-1]:
                add(special["hunk_end"], _SPECIAL)
        if self.mark_ends and "end" in special:
            add(special["end"], _SPECIAL)
        return rows

    def decode(self, tokens: Tokens) -> list[Any]:
        """Return a hunk for each segment with tagged lines, and the text of any other."""
        texts = super().decode(tokens)
        assert tokens.ids is not None
        line_of = tokens.layout.channels.get("line")
        if line_of is None:
            return texts
        role_of: dict[int, Change] = {self.special[role]: role for role in CHANGES}
        ids, numbers = tokens.ids.cpu().tolist(), line_of.cpu().tolist()
        found: list[Any] = []
        start = 0
        for text, length in zip(texts, tokens.layout.lengths, strict=True):
            pairs = list(zip(ids[start : start + length], numbers[start : start + length]))
            start += length
            lines = [
                [id_ for id_, _ in part]
                for number, part in groupby(pairs, key=lambda pair: pair[1])
                if number >= 0
            ]
            changes = [role_of.get(line[0]) for line in lines]
            if not any(changes):
                found.append(text)
                continue
            flat = torch.tensor(list(chain.from_iterable(lines)), dtype=torch.int64)
            decoded = super().decode(Tokens(Layout.of([len(line) for line in lines]), ids=flat))
            found.append(Hunk(tuple(decoded), tuple(changes)))
        return found
