"""The tokenizer of a model of Hugging Face transformers, without its padding."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import tokenizers
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer

from polymodal import DataError, Layout, Tokenizer, Tokens, TokenSpec, UnreadableError
from polymodal_text.hub import one_line, special_ids


class TransformersTokenizer(Tokenizer):
    """The tokens a model of transformers was trained with, special ones included, at true length.

    Channel "word" numbers the words of a segment, special tokens counting as words of their own.
    What looks like a special token in a text is text. Text without content, blank or normalised
    away, has no tokens at all. Once in a run's saved state, the tokenizer needs neither hub nor
    folder.

    Args:
        model: a name on the hub, or a local folder.
        max_tokens: longer text is cut, special tokens kept.

    Raises:
        ValueError: no room for text beside the special tokens.
        DataError: from the first use, a tokenizer that can't be fetched, or has no fast form.
    """

    reader = "text.plain"

    def __init__(self, *, model: str, max_tokens: int = 512):
        if max_tokens < 3:
            raise ValueError(f"max_tokens must be at least 3, got {max_tokens}")
        self.model = model
        self.max_tokens = max_tokens

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_engine", "spec")}

    # What is pickled and saved: the fast tokenizer as JSON, and the ids of its roles.
    @cached_property
    def _saved(self) -> Mapping[str, Any]:
        try:
            library = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
        except Exception as error:  # the network, files of any kind, packages it needs
            raise DataError(
                f"the tokenizer of {self.model!r} can't be loaded: {one_line(error)}"
            ) from error
        if not library.is_fast:
            raise DataError(f"the tokenizer of {self.model!r} has no fast form (tokenizer.json)")
        return {
            "tokenizer": json.loads(library.backend_tokenizer.to_str()),
            "special": special_ids(library),
        }

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        engine = tokenizers.Tokenizer.from_str(json.dumps(self._saved["tokenizer"]))
        engine.encode_special_tokens = True  # what looks like a special token is text
        engine.no_padding()
        engine.enable_truncation(self.max_tokens)
        return engine

    @cached_property
    def spec(self) -> TokenSpec:  # type: ignore[override]
        """Ids of the model's vocabulary on one position axis."""
        return TokenSpec(
            vocabulary=max(self._engine.get_vocab(with_added_tokens=True).values()) + 1,
            extent=(self.max_tokens,),
            max_tokens=self.max_tokens,
            kinds=("content", "special"),
            special=self._saved["special"],
            structure=("word",),
        )

    def check(self, raw: Any) -> None:
        """Refuse what is no string.

        Raises:
            UnreadableError: why.
        """
        if raw is not None and not isinstance(raw, str):
            raise UnreadableError(f"a tokenizer of text takes strings, got {type(raw).__name__}")

    def encode(
        self,
        raws: Sequence[str | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a text; None and text without content have no tokens at all."""
        texts = [raw if raw and raw.strip() else "" for raw in raws]
        encodings = [
            None if all(each.special_tokens_mask) else each
            for each in self._engine.encode_batch(texts)
        ]
        full = [each for each in encodings if each is not None]
        lengths = [0 if each is None else len(each) for each in encodings]
        total = sum(lengths)
        ids = np.fromiter(chain.from_iterable(e.ids for e in full), np.int64, total)
        special = chain.from_iterable(e.special_tokens_mask for e in full)
        word = chain.from_iterable((-1 if w is None else w for w in e.word_ids) for e in full)
        layout = Layout.of(lengths, kinds=torch.from_numpy(np.fromiter(special, np.int64, total)))
        words = torch.from_numpy(np.fromiter(word, np.int64, total))
        return Tokens(
            replace(layout, channels={"word": _numbered(words, layout)}),
            ids=torch.from_numpy(ids),
            cut=tuple(each is not None and bool(each.overflowing) for each in encodings),
        )

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the text of each segment, special tokens left out; "" for none."""
        assert tokens.ids is not None
        special = set(self.spec.special.values()) - {self.spec.special.get("unknown")}
        segments = torch.split(tokens.ids.cpu(), list(tokens.layout.lengths))
        rows = [[i for i in segment.tolist() if i not in special] for segment in segments]
        texts: list[str] = self._engine.decode_batch(rows, skip_special_tokens=False)
        return texts

    def state(self) -> Mapping[str, Any]:
        """Return the fast tokenizer's JSON and the ids of its roles."""
        return self._saved

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; hub or folder are then not needed.

        Raises:
            ValueError: a state that is no tokenizer's.
        """
        if set(state) != {"tokenizer", "special"}:
            raise ValueError(
                f"a TransformersTokenizer state has 'tokenizer' and 'special', got {sorted(state)}"
            )
        for cached in ("_engine", "spec"):
            self.__dict__.pop(cached, None)
        self.__dict__["_saved"] = dict(state)
        try:
            self._engine  # noqa: B018 - reads it
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"the saved tokenizer can't be read: {error}") from error


def _numbered(word: Int[Tensor, " token"], layout: Layout) -> Int[Tensor, " token"]:
    """Number the words of each segment from 0; every -1 is a word of its own."""
    new = torch.ones(len(word), dtype=torch.int64)
    new[1:] = (word[1:] != word[:-1]) | (word[1:] < 0)
    count = new.cumsum(0)
    first = layout.offsets[:-1][layout.segment]
    return count - count[first]
