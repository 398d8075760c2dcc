"""The tokenizer that an open_clip model was trained with, without its padding."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch

from polymodal import (
    DataError,
    Layout,
    Tokenizer,
    Tokens,
    TokenSpec,
    UnreadableError,
    contained,
    nearest,
)
from polymodal_text.hub import one_line, special_ids

with contained("TOKENIZERS_PARALLELISM"):  # open_clip turns it off for every tokenizer
    import open_clip

DEFAULT_CONTEXT = 77


def model_config(model: str) -> Mapping[str, Any]:
    """Return the config of an open_clip model: a name of its own, `local-dir:` or `hf-hub:`.

    Raises:
        ValueError: no such model, with the nearest name.
    """
    try:
        with contained():
            found: Mapping[str, Any] | None = open_clip.get_model_config(model)
    except (OSError, ValueError) as error:
        raise ValueError(f"the open_clip model {model!r} can't be read: {error}") from error
    if found is None:
        raise ValueError(
            f"open_clip has no model {model!r}.{nearest(model, open_clip.list_models())}"
        )
    return found


class ClipTokenizer(Tokenizer):
    """The tokens of an open_clip model's own tokenizer, at their true length.

    Text without a visible character has no tokens. Models of the Hugging Face kind (SigLIP,
    CLIPA, roberta) fetch their tokenizer from the hub; all others need no network.

    Args:
        model: the name of an open_clip model, or `local-dir:FOLDER`.
        max_tokens: cut longer text, begin and end kept; None: the model's context length.

    Raises:
        ValueError: an unknown model, or more tokens than its context has.
        DataError: from the first use, a tokenizer that can't be fetched or needs a package.
    """

    reader = "text.plain"

    def __init__(self, *, model: str = "ViT-B-32", max_tokens: int | None = None):
        text = model_config(model).get("text_cfg", {})
        context = text.get("context_length", DEFAULT_CONTEXT)
        if max_tokens is not None and not 3 <= max_tokens <= context:
            raise ValueError(
                f"max_tokens must lie between 3 and the {context} of {model}, got {max_tokens}"
            )
        self.model = model
        self.max_tokens = max_tokens or context
        self._context = context
        self._from_hub = bool(text.get("hf_tokenizer_name"))

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_library", "spec")}

    @cached_property
    def _library(self) -> Any:
        try:
            with contained():  # open_clip logs through the root logger
                # A tokenizer's own code is never run.
                options = {"trust_remote_code": False} if self._from_hub else {}
                return open_clip.get_tokenizer(self.model, **options)
        except ImportError as error:
            raise DataError(
                f"the tokenizer of {self.model} needs the package {error.name!r}. "
                f"Install it: pip install {error.name}"
            ) from error
        except (OSError, ValueError) as error:  # the network, or a folder without its files
            raise DataError(
                f"the tokenizer of {self.model} can't be loaded: {one_line(error)}"
            ) from error

    @cached_property
    def spec(self) -> TokenSpec:  # type: ignore[override]
        """Ids of the model's vocabulary on one position axis."""
        text = model_config(self.model).get("text_cfg", {})
        if self._from_hub:
            wrapped = self._library.tokenizer
            size = max(text.get("vocab_size", 0), len(wrapped))
            special = special_ids(wrapped)
        else:
            size = text.get("vocab_size", self._library.vocab_size)
            special = {
                "pad": 0,
                "begin": self._library.sot_token_id,
                "end": self._library.eot_token_id,
            }
        return TokenSpec(
            vocabulary=size,
            extent=(self.max_tokens,),
            max_tokens=self.max_tokens,
            kinds=("content", "special"),
            special=special,
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
        found = [([], False) if raw is None or not raw.strip() else self._ids(raw) for raw in raws]
        rows = [row for row, _ in found]
        lengths = [len(row) for row in rows]
        ids = np.fromiter(chain.from_iterable(rows), np.int64, sum(lengths))
        marks = [self.spec.special[role] for role in ("begin", "end") if role in self.spec.special]
        kinds = torch.from_numpy(np.isin(ids, marks).astype(np.int64))
        cut = tuple(is_cut for _, is_cut in found)
        return Tokens(Layout.of(lengths, kinds=kinds), ids=torch.from_numpy(ids), cut=cut)

    def _ids(self, text: str) -> tuple[list[int], bool]:
        """Return the ids of a text, and whether it was cut."""
        if self._from_hub:
            # One place more than is wanted tells a text that fits from one that was cut.
            whole = self._trimmed(text, self.max_tokens + 1)
            if len(whole) <= self.max_tokens:
                return whole, False
            return self._trimmed(text, self.max_tokens), True
        start, end = self._library.sot_token_id, self._library.eot_token_id
        content, room = self._library.encode(text), self.max_tokens - 2
        return [start, *content[:room], end], len(content) > room

    def _trimmed(self, text: str, length: int) -> list[int]:
        """Return the ids of the hub's tokenizer at most so long, without its padding."""
        row = self._library([text], context_length=length)[0]
        content = (row != self.spec.special.get("pad", 0)).nonzero()
        found: list[int] = row[: int(content[-1]) + 1 if len(content) else 0].tolist()
        return found

    def decode(self, tokens: Tokens) -> list[str]:
        """Return the text of each segment, lower-cased as the model sees it."""
        assert tokens.ids is not None
        special = set(self.spec.special.values()) - ({0} if not self._from_hub else set())
        texts = []
        for segment in torch.split(tokens.ids.cpu(), list(tokens.layout.lengths)):
            ids = [number for number in segment.tolist() if number not in special]
            decode = self._library.tokenizer.decode if self._from_hub else self._library.decode
            texts.append(decode(ids).strip())
        return texts
