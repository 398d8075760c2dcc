"""A text, code and the nodes of its data flow as one segment (GraphCodeBERT, Guo et al., 2021)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding

from polymodal import FilePath, Layout, Tokens, TokenSpec, UnreadableError, nearest
from polymodal_code.byte_pairs import CodeBytePairs
from polymodal_code.data_flow import DataFlow, data_flow
from polymodal_code.grammars import GRAMMARS, parser_of

CONTENT, SPECIAL, NODE = range(3)
KINDS = ("content", "special", "node")
COMES_FROM, COMPUTED_FROM, LINK, SUMMARY = range(4)
"""Kinds of edges: flow from a definition, flow from a right side, between a node and its own
subwords (both ways), and from a node to the begin and end tokens."""


class DataFlowTokens(CodeBytePairs):
    """Subwords of a text and of code, and a node for each occurrence of a variable (section 4.1).

    A segment is [begin] text [end] code [end] nodes; text or code may be missing. Code is the
    leaves of its syntax tree, each with a blank before it; comments and layout are left out. Nodes
    have kind "node", the id of an unknown token and position 0, the rest position 1 and on; their
    names are told apart by the channel "variable" (-1 for all else). Edges have four kinds: flow
    from a definition (0) and from a right side (1), between a node and its own subwords, both ways
    (2), and from each node to the begin and end tokens (3). An encoder with `edges: guide,
    guided: [node], averaged: [node]` attends along them as the paper does.

    Where a segment is too long, code is cut first; a node whose subwords are not all there stays,
    without a link. Takes what `code.record` reads.

    Args:
        vocabulary_size: ids, special tokens and the 256 bytes included; None: the file's, or 8,000.
        file: a tokenizer.json, or a vocab.json with its merges.txt, in place of learning.
        max_tokens: of a segment, nodes included.
        max_nodes: further nodes are left out; 0: code without data flow.
        max_text: longer texts before code are cut.

    Raises:
        ValueError: a vocabulary too small for the bytes, or one without an unknown token; no room
            for code.
    """

    reader = "code.record"

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: FilePath | None = None,
        max_tokens: int = 512,
        max_nodes: int = 128,
        max_text: int = 128,
    ):
        super().__init__(vocabulary_size=vocabulary_size, file=file, max_tokens=max_tokens)
        if max_nodes < 0 or max_text < 0:
            raise ValueError(
                f"max_nodes and max_text must be 0 or more, got {max_nodes} and {max_text}"
            )
        if max_tokens < max_nodes + max_text + 4:
            raise ValueError(
                f"max_tokens must leave room for code beside {max_nodes} nodes, {max_text} tokens "
                f"of text and 3 marks, got {max_tokens}"
            )
        self.max_nodes = max_nodes
        self.max_text = max_text

    @cached_property
    def spec(self) -> TokenSpec:  # type: ignore[override]
        """Ids on one position axis, with nodes and edges."""
        if "unknown" not in self.special:
            raise ValueError(f"file: {self.file} has no unknown token for nodes to have")
        return replace(
            super().spec,
            extent=(self.max_tokens + 1,),
            kinds=KINDS,
            structure=("word", "variable"),
            edges=True,
            edge_kinds=4,
        )

    def check(self, raw: Any) -> None:
        """Refuse a record in a language there is no grammar for.

        Raises:
            UnreadableError: why.
        """
        if raw is None or "code" not in raw:
            return
        language = raw["language"]
        if language not in GRAMMARS:
            raise UnreadableError(
                f"no grammar for the language {language!r}.{nearest(language, GRAMMARS)}"
            )
        try:
            parser_of(language)
        except ImportError as error:
            raise UnreadableError(
                f"the grammar of {language} is not installed: pip install 'polymodal[code]'"
            ) from error

    def encode(
        self,
        raws: Sequence[Any],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a record; None and records without content have no tokens."""
        texts = [(raw or {}).get("text", "").strip() for raw in raws]
        flows = [_flow(raw) for raw in raws]
        text_pieces = self._engine.encode_batch(texts, add_special_tokens=False)
        code_pieces = self._engine.encode_batch(
            [[f" {token}" for token in flow.tokens] for flow in flows],
            is_pretokenized=True, add_special_tokens=False,
        )  # fmt: skip
        rows = _Rows(self.special["unknown"])
        for text, code, flow in zip(text_pieces, code_pieces, flows, strict=True):
            self._add(rows, text, code, flow)
        return rows.tokens()

    def _add(self, rows: "_Rows", text: Encoding, code: Encoding, flow: DataFlow) -> None:
        """Add a segment to the rows of a batch."""
        begin, end = self.special.get("begin"), self.special.get("end")
        nodes = flow.nodes[: self.max_nodes]
        marks = (begin is not None) + (end is not None) * (bool(text.ids) + bool(code.ids))
        room = self.max_tokens - marks - len(nodes)
        text_ids = text.ids[: min(room, self.max_text) if code.ids else room]
        code_ids = code.ids[: room - len(text_ids)]
        rows.begin()
        held = len(text_ids) + len(code_ids) + len(nodes)
        rows.cut.append(
            held < len(text.ids) + len(code.ids) + (self.max_nodes > 0) * len(flow.nodes)
        )
        specials = []
        if begin is not None and (text_ids or code_ids):
            specials.append(rows.special(begin))
        for ids, words in ((text_ids, text.word_ids), (code_ids, code.word_ids)):
            first = len(rows.ids)
            rows.content(ids, words[: len(ids)])
            if ids and end is not None:
                specials.append(rows.special(end))
        spans = _spans(code.word_ids, len(code_ids), first)
        places = {token: len(rows.ids) + number for number, token in enumerate(nodes)}
        rows.nodes([flow.tokens[token] for token in nodes])
        for source, target, kind in flow.edges:
            if source in places and target in places:
                rows.edge(places[source], places[target], kind)
        for token, place in places.items():
            for row in spans.get(token, ()):
                rows.edge(row, place, LINK)
                rows.edge(place, row, LINK)
            for row in specials:
                rows.edge(place, row, SUMMARY)

    def fit(self, raws: Iterable[Any]) -> None:
        """Learn the vocabulary from texts, and from code as it is encoded.

        Raises:
            DataError: there is no text to learn from.
        """
        super().fit(_texts(raws))

    def decode(self, tokens: Tokens) -> list[str]:
        """Return text and code of each segment; code has a blank before each token."""
        kinds = tokens.layout.kinds
        return super().decode(tokens if kinds is None else tokens.keep(kinds != NODE))


def _flow(raw: Mapping[str, str] | None) -> DataFlow:
    if raw is None or "code" not in raw:
        return DataFlow((), ())
    return data_flow(raw["code"], raw["language"])


def _texts(raws: Iterable[Mapping[str, str] | None]) -> Iterator[str]:
    for raw in raws:
        if raw is not None:
            yield raw.get("text", "")
            yield "".join(f" {token}" for token in _flow(raw).tokens)


def _spans(words: Sequence[int | None], kept: int, first: int) -> dict[int, range]:
    """Return the rows of each code token whose subwords are all among the first `kept`."""
    spans: dict[int, range] = {}
    for number, word in enumerate(words):
        if word is not None:
            start = spans[word].start if word in spans else first + number
            spans[word] = range(start, first + number + 1)
    return {word: span for word, span in spans.items() if span.stop <= first + kept}


@dataclass
class _Rows:
    """The rows of a batch so far, segment by segment."""

    unknown: int
    starts: list[int] = field(default_factory=list)  # of segments
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    variables: list[int] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    edge_kinds: list[int] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)  # of segments

    def begin(self) -> None:
        self.starts.append(len(self.ids))

    def special(self, number: int) -> int:
        """Add a special token and return its row."""
        self._put([number], SPECIAL, [0])
        return len(self.ids) - 1

    def content(self, ids: Sequence[int], words: Sequence[int | None]) -> None:
        self._put(ids, CONTENT, [word or 0 for word in words])

    def nodes(self, names: Sequence[str]) -> None:
        self._put([self.unknown] * len(names), NODE, range(len(names)))
        known: dict[str, int] = {}
        self.variables[len(self.ids) - len(names) :] = [
            known.setdefault(name, len(known)) for name in names
        ]

    def _put(self, ids: Sequence[int], kind: int, words: Sequence[int]) -> None:
        place = len(self.ids) - self.starts[-1]
        word = self.words[-1] + 1 if place else 0
        self.words += [word + each for each in words]
        self.positions += [0] * len(ids) if kind == NODE else range(place + 1, place + len(ids) + 1)
        self.kinds += [kind] * len(ids)
        self.variables += [-1] * len(ids)
        self.ids += ids

    def edge(self, source: int, target: int, kind: int) -> None:
        self.edges.append((source, target))
        self.edge_kinds.append(kind)

    def tokens(self) -> Tokens:
        layout = Layout.of(
            np.diff([*self.starts, len(self.ids)]).tolist(),
            torch.tensor(self.positions, dtype=torch.int64)[:, None],
            kinds=torch.tensor(self.kinds, dtype=torch.int64),
            channels={
                "word": torch.tensor(self.words, dtype=torch.int64),
                "variable": torch.tensor(self.variables, dtype=torch.int64),
            },
            edges=torch.tensor(self.edges, dtype=torch.int64).reshape(-1, 2).T.contiguous(),
            edge_kinds=torch.tensor(self.edge_kinds, dtype=torch.int64),
        )
        ids = torch.tensor(self.ids, dtype=torch.int64)
        return Tokens(layout, ids=ids, cut=tuple(self.cut))
