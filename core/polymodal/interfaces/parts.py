"""Parts: components within components. What is hidden, what replaces it, what is predicted, how.

A constructor argument annotated with one of these classes (`hide: Hiding | None = None`) is a part:
a config names it by `use:`, any plugin supplies it, and it is checked, described and saved like
every other component. A part's constructor takes its own options alone; what it must know of the
stream it learns from its owner, once, by `bind`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.interfaces.component import Need, StreamInfo
from polymodal.interfaces.step import Step
from polymodal.packed.choice import (
    Choice,
    Rounding,
    allowed_lengths,
    choose,
    counting,
    hidden_counts,
    put_last,
)
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens

Unembed = Callable[[Float[Tensor, "row width"]], Float[Tensor, "row vocabulary"] | None]
Metrics = Mapping[str, tuple[float | Tensor, int | Tensor]]
"""By name a sum and a count, as those of `Loss`."""


class Part(nn.Module, ABC):
    """A component within a component, made by the builder from an option of its owner."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What there is to hide in a step: a stream's tokens, and which of them may be hidden."""

    step: Step
    stream: str
    tokens: Tokens
    spec: TokenSpec
    allowed: Bool[Tensor, " token"] | None  # None: all of them
    noise: Callable[[str], Float[Tensor, " token"]]  # in [0, 1), by name; the same in any packing
    samples: Sequence[int]  # the rows of the batch that the tokens' samples are
    leave: int = 0  # tokens of each segment that must stay visible

    def labels(self, field: str) -> list[Any]:
        """Return a field of each sample, None where it is missing."""
        found = self.step.labels(field)
        return [found[row] for row in self.samples]

    def lowest(
        self,
        scores: Float[Tensor, " token"],
        ratio: float,
        *,
        rounding: Rounding = "nearest",
        at_least: int = 1,
    ) -> "Hidden":
        """Hide a share of each segment's tokens that may be hidden, those with the lowest scores.

        How many rows are chosen is settled on the host, by all tokens of a segment: an upper
        bound, since it does not know how many of them may be hidden. Which of the rows count is
        settled on the device: the share of the allowed tokens. The others stay as they are.
        """
        layout = self.tokens.layout
        counts = hidden_counts(
            layout.lengths, ratio, rounding=rounding, at_least=at_least, leave=self.leave
        )
        scores = put_last(scores, self.allowed)
        choice = choose(scores, layout, counts)
        if self.allowed is None:
            return Hidden(self.tokens, choice)
        counted = counting(
            scores, self.allowed, layout, counts, ratio, rounding=rounding, at_least=at_least
        )
        return Hidden(self.tokens, choice, counted[choice.hidden])

    def counts(
        self, ratio: float, *, rounding: Rounding = "nearest", at_least: int = 1
    ) -> list[int]:
        """Return how many tokens of each segment are this share of those that may be hidden.

        At least `leave` of the segment stay. Waits for the device where not all may be hidden.
        """
        layout = self.tokens.layout
        lengths = allowed_lengths(self.allowed, layout)
        found = hidden_counts(lengths, ratio, rounding=rounding, at_least=at_least)
        left = (max(length - self.leave, 0) for length in layout.lengths)
        return [min(count, most) for count, most in zip(found, left, strict=True)]


@dataclass(frozen=True, eq=False)
class Hidden:
    """What is hidden of a stream in one step."""

    tokens: Tokens  # as they were; with copies, further segments of their sample
    choice: Choice
    counted: Bool[Tensor, " hidden"] | None = None  # which of its rows count; None for all
    origin: Int[Tensor, " token"] | None = None  # the candidate each is a copy of; None: no copies

    @property
    def rows(self) -> Int[Tensor, " hidden"]:
        """The hidden rows, ascending."""
        return self.choice.hidden

    def settled(self) -> "Hidden":
        """Return it with no rows but those that count; waits for the device unless all do."""
        if self.counted is None:
            return self
        layout = self.tokens.layout
        mask = torch.zeros(layout.tokens, dtype=torch.bool, device=layout.device)
        mask = mask.index_copy(0, self.rows, self.counted)
        return Hidden(self.tokens, Choice.of_mask(mask, layout), None, self.origin)

    def drawn(self, noise: Float[Tensor, " candidate"]) -> Float[Tensor, " hidden"]:
        """Return the hidden tokens' share of noise drawn for every candidate."""
        return noise[self.rows if self.origin is None else self.origin[self.rows]]


class Hiding(Part):
    """Chooses which tokens of a stream are hidden."""

    def need(self) -> Need:
        """Return what it asks of the stream."""
        return Need()

    def fields(self) -> tuple[str, ...]:
        """Return the fields of the sample it reads (`Candidates.labels`)."""
        return ()

    def bind(self, info: StreamInfo) -> None:
        """Learn of the stream, once.

        Raises:
            ValueError: it can't choose among such tokens.
        """

    @abstractmethod
    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden; `among.lowest(scores, ratio)` does it by a score a token."""


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A stream with some of its tokens replaced, and what it was."""

    among: Candidates
    hidden: Hidden
    tokens: Tokens  # as the model sees them; their rows are those of `hidden.tokens`


class Replacing(Part):
    """Says what stands in the place of what is hidden."""

    def need(self) -> Need:
        """Return what it asks of the stream."""
        return Need()

    def bind(self, info: StreamInfo) -> None:
        """Learn of the stream, once; weights are made here.

        Raises:
            ValueError: it can't replace such tokens.
        """

    @abstractmethod
    def replace(self, hidden: Hidden, among: Candidates) -> Tokens:
        """Return the tokens with others in the place of the hidden ones that count."""

    def learn(self, corrupted: Corrupted, predicted: Tensor, rows: Int[Tensor, " scored"]) -> None:
        """Note what the model made of it, for `after_update`; nothing by default.

        Args:
            corrupted: what it saw.
            predicted: its scores of the rows, without gradients.
            rows: those scored.
        """

    def after_update(self) -> None:
        """Follow an optimiser step; state belongs in buffers."""


class Target(Part):
    """Says what is predicted of which tokens, and what a wrong prediction costs.

    After `bind`, `outputs` is how many numbers a head must give for a row.
    """

    outputs: int
    classes: bool = False  # whether they are scores over a fixed set of classes, the stream's ids

    def need(self) -> Need:
        """Return what it asks of the stream."""
        return Need()

    @abstractmethod
    def bind(self, info: StreamInfo) -> None:
        """Learn of the stream, once, and set `outputs`.

        Raises:
            ValueError: such tokens have nothing of the kind.
        """

    def scored(
        self, hidden: Hidden, among: Candidates
    ) -> tuple[Int[Tensor, " scored"], Bool[Tensor, " scored"] | None]:
        """Return the rows to predict, and which of them count (None: all); the hidden ones."""
        return hidden.rows, hidden.counted

    @abstractmethod
    def loss(
        self,
        predicted: Float[Tensor, "scored output"],
        corrupted: Corrupted,
        rows: Int[Tensor, " scored"],
        counted: Bool[Tensor, " scored"] | None,
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Return the sum of the losses of the rows that count, 0 for none, and metrics."""


class Head(Part):
    """Makes predictions of vectors."""

    def need(self) -> Need:
        """Return what it asks of the stream: its encoder's table, say."""
        return Need()

    @abstractmethod
    def bind(self, width: int, outputs: int, info: StreamInfo) -> None:
        """Learn how wide the vectors are and how many outputs are wanted; weights are made here.

        Raises:
            ValueError: it can't give so many.
        """

    @abstractmethod
    def predict(
        self, vectors: Float[Tensor, "row width"], unembed: Unembed
    ) -> Float[Tensor, "row output"]:
        """Return what it makes of these vectors; `unembed` scores ids by the encoder's table."""


class Pooler(Part):
    """Makes one vector of the vectors of a sample."""

    def bind(self, width: int) -> None:
        """Learn how wide the vectors are; weights are made here."""

    @abstractmethod
    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return a vector a sample, zero for one without tokens."""


def count_of(rows: Tensor, counted: Bool[Tensor, " scored"] | None) -> int | Tensor:
    """Return how many rows count; on the host where all do."""
    return len(rows) if counted is None else counted.sum()


PARTS: Mapping[str, type[Part]] = {
    "hiding": Hiding,
    "replacing": Replacing,
    "target": Target,
    "head": Head,
    "pooler": Pooler,
}
"""The kinds of parts, and the class of each."""
