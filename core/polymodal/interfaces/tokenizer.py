"""Tokenizer and Reader: from what stands in a record to packed tokens."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens


class Reader(ABC):
    """Turns the value of a field (a path, bytes, an array) into the raw value a tokenizer takes."""

    strings_are_paths: bool = False
    """Whether it opens the file that a string names, rather than read the string itself."""

    def paths_in(self, value: Any) -> list[str]:
        """Return the paths as which it opens what stands in a value; none if it opens no file.

        A run checks them before a record is read (`polymodal.confine`), since a record may
        name any file of the machine. By default a string, with `strings_are_paths`, and the path
        of `{"path", "bytes"}` without bytes.
        """
        if isinstance(value, str):
            return [value] if self.strings_are_paths else []
        if isinstance(value, Mapping) and value.get("bytes") is None:
            path = value.get("path")
            return [path] if isinstance(path, str) else []
        return []

    @abstractmethod
    def __call__(self, value: Any) -> Any:
        """Return the raw value.

        Raises:
            UnreadableError: the value can't be read; the record is skipped and counted.
        """


class Tokenizer(ABC):
    """Turns raw values of one modality into packed tokens, a whole batch at a time.

    Runs in data workers, so it must be picklable and must not touch global random state.
    """

    reader: ClassVar[str | None] = None  # the component that reads fields for it, "vision.image"

    @property
    @abstractmethod
    def spec(self) -> TokenSpec:
        """What the tokens are like; the same before and after `fit`."""

    @abstractmethod
    def encode(
        self,
        raws: Sequence[Any],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return one segment a raw value, in order; None (absent) has no tokens.

        With `generators`, one a raw value, random augmentation is on and draws from them alone;
        without, the result is the same each time. A raw value that can't be tokenized raises
        UnreadableError from `check`, not from here. Where a limit (`max_tokens`, seconds) leaves
        something of a raw value out, `Tokens.cut` says of which, so that a run can tell the share
        of rows it sees in part; what a crop or the odd end of a stride drops is no such cut.
        """

    def shrink(self, raw: Any, *, generator: np.random.Generator | None = None) -> Any:
        """Return what `encode` needs of a raw value, so that a batch of large ones fits in memory.

        Called by the data worker right after reading, sample by sample. `encode` takes what this
        returns as well as raw values, to the same tokens: it gets the same generator afterwards,
        so what is drawn here must not be drawn there again. By default the raw value itself.

        Raises:
            UnreadableError: the record can't be used after all; it is skipped and counted.
        """
        return raw

    def check(self, raw: Any) -> None:
        """Refuse a single raw value that `encode` could not take.

        Raises:
            UnreadableError: why; the record is skipped and counted.
        """

    def finish(self, tokens: Tokens) -> Tokens:
        """Do the second half of the work on the training device; nothing by default."""
        return tokens

    def count(self, raws: Sequence[Any]) -> list[int]:
        """Return how many tokens each raw value would have; override where that is cheap."""
        return list(self.encode(raws).layout.lengths)

    @property
    def fitted(self) -> bool:
        """Whether it can encode; False while a vocabulary has still to be learned."""
        return True

    def fit(self, raws: Iterable[Any]) -> None:
        """Learn a vocabulary from raw values of the training split; nothing by default."""

    def decode(self, tokens: Tokens) -> list[Any]:
        """Return a raw value (or as near as can be) for each segment.

        Raises:
            NotImplementedError: this tokenizer has no way back.
        """
        raise NotImplementedError(f"{type(self).__name__} can't decode")

    def state(self) -> Mapping[str, Any]:
        """Return what was learned, as JSON values; options are kept by the config."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned.

        Raises:
            ValueError: a state that does not fit.
        """
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got keys {sorted(state)}")
