"""What all subword tokenizers share: a vocabulary, learned or loaded, and packed encoding.

Special tokens stand first, one id a role, in the order of `ROLES`. They are no part of the
model's text handling, so that the words "[MASK]" in a document stay words.
"""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch

from polymodal import DataError, Layout, Tokenizer, Tokens, TokenSpec, UnreadableError
from polymodal_text.plain import decoded

ROLES = ("pad", "unknown", "mask", "begin", "end")
"""The roles of special tokens, as `TokenSpec.special` names them."""

SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[BEGIN]", "[END]")
"""How a learned vocabulary writes them: ids 0 to 4."""

# What published tokenizers call them, the commonest first.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>"),
    "unknown": ("[UNK]", "<unk>", "<|unk|>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "begin": (
        "[BEGIN]", "[CLS]", "<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|startoftext|>",
        "<start_of_text>", "<|endoftext|>",
    ),
    "end": (
        "[END]", "[SEP]", "</s>", "<eos>", "[EOS]", "<|end_of_text|>", "<end_of_text>",
        "<|endoftext|>",
    ),
}  # fmt: skip

CONTENT_KIND, SPECIAL_KIND = 0, 1
LEARNED_SIZE = 8000


class SubwordTokenizer(Tokenizer):
    """Subwords of a learned or loaded vocabulary; a subclass says how to learn and how to load.

    A token's channel "word" numbers the words of its segment, special tokens counting as words of
    their own: what shares a number is masked together. It is structure, not an input, so it stands
    in `Layout.channels` and not in `spec.channels`. Text without content (empty, blank, or nothing
    left after normalising) has no tokens at all, begin and end included: its sample lacks the
    stream.

    Args:
        vocabulary_size: ids the model has room for, fixed before learning, special tokens
            included; fewer may be found. None: the file's, or 8,000 to be learned.
        file: a vocabulary to load in place of learning one; read when first needed, and not again
            once its content is in a run's saved state. It may be what another run has learned:
            RUN/model/tokenizers/NAME.json.
        max_tokens: longer segments are cut, begin and end kept.
        mark_ends: put the begin and end tokens around each segment, as far as there are any.
        sentinels: so many ids of roles "sentinel_0" ... that stand for what is cut out of a segment
            (T5); they are the last of the vocabulary.

    Raises:
        ValueError: a size that leaves no room.
        DataError: from the first use, a file that is missing or no vocabulary.
    """

    smallest_vocabulary = len(ROLES) + 1
    marks_words = True  # False where a segment is one long word, as a genome is
    marks: tuple[str, ...] = ()  # further roles with ids of their own, before the sentinels

    def __init__(
        self,
        *,
        vocabulary_size: int | None = None,
        file: str | None = None,
        max_tokens: int = 512,
        mark_ends: bool = True,
        sentinels: int = 0,
    ):
        if sentinels < 0:
            raise ValueError(f"sentinels must be 0 or more, got {sentinels}")
        self.added = (*self.marks, *(f"sentinel_{k}" for k in range(sentinels)))
        smallest = self.smallest_vocabulary + len(self.added)
        least = 3 if mark_ends else 1
        if max_tokens < least:
            raise ValueError(f"max_tokens must be at least {least}, got {max_tokens}")
        if vocabulary_size is not None and vocabulary_size < smallest:
            raise ValueError(
                f"vocabulary_size must be at least {smallest} (special tokens and "
                f"alphabet), got {vocabulary_size}"
            )
        self.vocabulary_size = vocabulary_size
        self.file = file
        self.max_tokens = max_tokens
        self.mark_ends = mark_ends
        self._json: str | None = None

    @abstractmethod
    def learn(self, texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
        """Return a tokenizer with at most `size` ids, `SPECIAL` the first; always the same."""

    def texts(self, raw: Any) -> Iterable[str]:
        """Return the texts of a raw value that a vocabulary is learned from: itself."""
        return (raw,)

    @abstractmethod
    def load(self, path: Path) -> tokenizers.Tokenizer:
        """Return the tokenizer of a file that exists."""

    # JSON is the one source of truth: it is what is pickled and saved. The engine is made from it.

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_engine", "special", "spec")}

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        if self._json is None:
            if self.file is None:
                raise ValueError(
                    f"{type(self).__name__} has no vocabulary yet: call fit, or give file"
                )
            self._json = _read(self.file, self.load).to_str()
        engine = tokenizers.Tokenizer.from_str(self._json)
        engine.encode_special_tokens = True  # what looks like a special token is text
        engine.no_padding()
        engine.no_truncation()
        return engine

    @property
    def fitted(self) -> bool:
        """Whether there is a vocabulary, or a file to take it from."""
        return self._json is not None or self.file is not None

    @cached_property
    def special(self) -> Mapping[str, int]:
        """The id of each role that this vocabulary has."""
        first = self._size - len(self.added)
        added = {role: first + number for number, role in enumerate(self.added)}
        if self.file is None:
            return {**dict(zip(ROLES, range(len(ROLES)), strict=True)), **added}
        ids = self._engine.get_vocab(with_added_tokens=True)
        found = {
            role: [ids[name] for name in names if name in ids] for role, names in _KNOWN.items()
        }
        return {**{role: known[0] for role, known in found.items() if known}, **added}

    @property
    def _size(self) -> int:
        """How many ids there is room for."""
        size = self.vocabulary_size
        if self.file is None:
            return size or LEARNED_SIZE
        held = max(self._engine.get_vocab(with_added_tokens=True).values()) + 1 + len(self.added)
        if size is not None and size < held:
            raise ValueError(
                f"vocabulary_size must be at least the {held} ids of {self.file}"
                f"{' with those added' if self.added else ''}, got {size}"
            )
        return size or held

    @cached_property
    def spec(self) -> TokenSpec:  # type: ignore[override]
        """Ids on one position axis; special tokens have a kind of their own."""
        return TokenSpec(
            vocabulary=self._size,
            extent=(self.max_tokens,),
            max_tokens=self.max_tokens,
            kinds=("content", "special"),
            special=self.special,
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
        """Return one segment a text; None and text without content have no tokens."""
        texts = ["" if raw is None or not raw.strip() else raw for raw in raws]
        encodings = self._engine.encode_batch(texts, add_special_tokens=False)
        begin = self.special.get("begin") if self.mark_ends else None
        end = self.special.get("end") if self.mark_ends else None
        marks = (begin is not None) + (end is not None)
        room = self.max_tokens - marks
        cut = tuple(len(encoding) > room for encoding in encodings)
        ids: list[list[int]] = []
        words: list[list[int]] = []
        for encoding in encodings:
            content = encoding.ids[:room]
            word = list(range(len(content)))
            if self.marks_words:
                word = [number or 0 for number in encoding.word_ids[:room]]
            if content and begin is not None:
                content = [begin, *content]
                word = [0, *(number + 1 for number in word)]
            if content and end is not None:
                content.append(end)
                word.append(word[-1] + 1)
            ids.append(content)
            words.append(word)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        total = int(lengths.sum())
        packed = np.fromiter(chain.from_iterable(ids), np.int64, total)
        word_of = np.fromiter(chain.from_iterable(words), np.int64, total)
        kinds = np.full(total, CONTENT_KIND, np.int64)
        stops = np.cumsum(lengths)
        filled = lengths > 0
        if begin is not None:
            kinds[(stops - lengths)[filled]] = SPECIAL_KIND
        if end is not None:
            kinds[stops[filled] - 1] = SPECIAL_KIND
        layout = Layout.of(
            lengths.tolist(),
            kinds=torch.from_numpy(kinds),
            channels={"word": torch.from_numpy(word_of)},
        )
        return Tokens(layout, ids=torch.from_numpy(packed), cut=cut)

    def fit(self, raws: Iterable[str | None]) -> None:
        """Learn the vocabulary; the same texts, in any order, give the same one.

        Raises:
            DataError: there is no text to learn from.
        """
        if self.file is not None:
            return
        present = (raw for raw in raws if raw is not None)
        texts = [text for raw in present for text in self.texts(raw) if text.strip()]
        if not texts:
            raise DataError(
                f"{type(self).__name__} can't learn a vocabulary: the training split has no text"
            )
        self._adopt(self.learn(texts, self._size - len(self.added)).to_str())

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the text of each segment, special tokens left out; "" for none."""
        assert tokens.ids is not None
        special = set(self.special.values()) - {self.special.get("unknown")}
        known = self._engine.get_vocab_size(with_added_tokens=True)
        segments = torch.split(tokens.ids.cpu(), list(tokens.layout.lengths))
        rows = [
            [i for i in segment.tolist() if i not in special and i < known] for segment in segments
        ]
        texts: list[str] = self._engine.decode_batch(rows, skip_special_tokens=False)
        return texts

    def state(self) -> Mapping[str, Any]:
        """Return the vocabulary as the JSON of Hugging Face tokenizers."""
        if not self.fitted:
            return {}
        self._engine  # noqa: B018 - reads the file, if there is one
        assert self._json is not None
        return {"tokenizer": json.loads(self._json)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; a file named by the options is then not needed.

        Raises:
            ValueError: no tokenizer's JSON, or more ids than the vocabulary has room for.
        """
        if set(state) != {"tokenizer"}:
            raise ValueError(
                f"a {type(self).__name__} state has the key 'tokenizer', got {sorted(state)}"
            )
        content = json.dumps(state["tokenizer"])
        try:
            found = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"the saved tokenizer can't be read: {error}") from error
        held = max(found.get_vocab(with_added_tokens=True).values(), default=0) + 1
        room = self.vocabulary_size or (held + len(self.added) if self.file else LEARNED_SIZE)
        room -= len(self.added)
        if held > room:
            raise ValueError(f"the saved vocabulary has {held} ids, but there is room for {room}")
        self._adopt(content)

    def _adopt(self, content: str) -> None:
        self._json = content
        for cached in ("_engine", "special", "spec"):
            self.__dict__.pop(cached, None)


def text_of_file(path: Path) -> str:
    """Return a vocabulary file's text, without a byte-order mark.

    Raises:
        DataError: bytes that are not UTF-8, with the place of the first, counted from 0.
    """
    try:
        return decoded(path.read_bytes(), name=str(path))
    except UnreadableError as error:
        raise DataError(str(error).partition(". Convert it")[0] + ". Convert it") from None


def _read(file: str, load: Any) -> tokenizers.Tokenizer:
    path = Path(file).expanduser()
    try:
        if not path.is_file():
            raise DataError(f"there is no vocabulary file {file}")
        saved = json.loads(text_of_file(path)) if path.suffix == ".json" else None
        if isinstance(saved, dict) and set(saved) == {"tokenizer"}:  # `state` of a run
            return tokenizers.Tokenizer.from_str(json.dumps(saved["tokenizer"]))
        found: tokenizers.Tokenizer = load(path)
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is no vocabulary: {error}") from error
    except (ValueError, DataError):
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is no vocabulary: {error}") from error
    return found
