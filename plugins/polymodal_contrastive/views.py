"""Two views of each sample, compared by samples or token by token."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import DataError, Each, Encoded, Need, Step, StreamInfo, Tokens, View


@dataclass(frozen=True)
class Views:
    """The stream itself and a second view: `other`, or the stream augmented anew.

    `other` is another stream of the same samples, with an augmentation of its own say.
    """

    stream: str
    other: str | None
    each: Each

    @classmethod
    def of(
        cls, info: Mapping[str, StreamInfo], stream: str, other: str | None, each: Each
    ) -> "Views":
        """Return the views that these options say.

        Raises:
            ValueError: an unknown stream, one stream for both, or vectors of unlike widths.
        """
        for name in (stream, other):
            if name is not None:
                Need().check(info, name)
        if other == stream:
            raise ValueError(f"other must be a stream other than {stream!r}: leave it out")
        if each not in ("sample", "token"):
            raise ValueError(f"each must be sample or token, got {each!r}")
        if other is not None and info[other].width != info[stream].width:
            raise ValueError(
                f"streams {stream!r} and {other!r} have vectors of widths {info[stream].width} and "
                f"{info[other].width}: let them share an encoder"
            )
        return cls(stream, other, each)

    @property
    def needs(self) -> dict[str, Need]:
        """The streams; any tokens will do."""
        return {name: Need() for name in (self.stream, self.other) if name is not None}

    @property
    def views(self) -> dict[str, View]:
        """The second view, if it is no stream."""
        return {} if self.other is not None else {"again": View(self.stream)}

    def tokens(self, step: Step) -> tuple[Tokens, Tokens]:
        """Return both views' tokens."""
        return step.tokens(self.stream), step.tokens(self.other or f"{step.objective}/again")

    def encoded(self, step: Step) -> tuple[Encoded, Encoded]:
        """Return both views through their encoders."""
        if self.other is not None:
            return step.encode(self.stream), step.encode(self.other)
        return step.encode(self.stream), step.encode_tokens(self.stream, self.tokens(step)[1])

    def samples(self, step: Step) -> list[int]:
        """Return the samples that have the streams."""
        return step.rows_with(*self.needs)

    def count(self, step: Step) -> int:
        """Return how many vectors a view has."""
        samples = self.samples(step)
        if self.each == "sample":
            return len(samples)
        layout = self.tokens(step)[0].layout
        return sum(layout.lengths[segment] for segment in layout.owned(samples))

    def rows(self, step: Step, *encoded: Encoded) -> list[Float[Tensor, "row width"]]:
        """Return the vectors of the samples that have the streams, or of their tokens.

        Raises:
            DataError: by tokens, if a sample's views differ in how many they have.
        """
        samples = self.samples(step)
        if self.each == "sample":
            index = torch.tensor(samples, dtype=torch.int64, device=encoded[0].pooled.device)
            return [view.pooled_rows()[index] for view in encoded]
        found = [_of_tokens(view) for view in encoded]
        layouts = [view.layout for view in self.tokens(step)]
        if len(samples) < step.batch.samples:
            taken = [layout.taken(samples) for layout in layouts]
            layouts = [layout for layout, _ in taken]
            found = [rows[kept] for rows, (_, kept) in zip(found, taken, strict=True)]
        if layouts[0].lengths != layouts[1].lengths:
            raise DataError(
                f"the two views of {self.stream!r} differ in how many tokens they have: compare "
                "them by samples, or leave augmentation out that drops tokens"
            )
        return found


def _of_tokens(encoded: Encoded) -> Float[Tensor, "token width"]:
    return (
        encoded.vectors
        if encoded.source is None
        else encoded.vectors.index_select(0, encoded.source)
    )
