"""Masked token modelling: hide some ids and predict them from the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.component import FieldName, FromRun, ModuleName, Need, StreamInfo, StreamName
from polymodal.frequencies import Frequencies
from polymodal.labels import class_name
from polymodal.model import PretrainingModel
from polymodal.objective import Loss, Objective
from polymodal.step import Step
from polymodal.tokens import Encoded, Tokens
from polymodal_masking.balance import Amount, choose_balanced
from polymodal_masking.choice import (
    check_ratio,
    choose,
    choose_units,
    hidden_counts,
    hideable,
    put_last,
    span_scores,
)
from polymodal_masking.context import Context, at
from polymodal_masking.losses import token_loss
from polymodal_masking.words import word_numbers


def corrupted(
    ids: Int[Tensor, " token"],
    rows: Int[Tensor, " hidden"],
    dice: Float[Tensor, " hidden"],
    draw: Float[Tensor, " hidden"],
    *,
    mask: int,
    ordinary: Int[Tensor, " ordinary"],
    replace: float,
    random: float,
) -> Int[Tensor, " token"]:
    """Return ids with these rows replaced (BERT, Devlin et al., 2019, section 3.1).

    A share `replace` becomes the mask id, `random` some ordinary id by `draw`, the rest stays.
    """
    place = (draw * len(ordinary)).long().clamp(max=len(ordinary) - 1)
    new = torch.where(dice < replace + random, ordinary[place], ids[rows])
    new = torch.where(dice < replace, mask, new)
    return ids.index_copy(0, rows, new)


@dataclass(frozen=True, eq=False)
class Hidden:
    """What is hidden of a stream in one step."""

    tokens: Tokens  # as they were; with copies, further segments of their sample
    rows: Int[Tensor, " hidden"]
    counted: Bool[Tensor, " hidden"] | None  # which of the rows count; None for all
    origin: Int[Tensor, " token"] | None = None  # the row each is a copy of; None without copies


@dataclass(frozen=True, eq=False)
class Masked:
    """A stream with some ids hidden, encoded: what `MaskedTokens` shares with other objectives."""

    hidden: Hidden
    encoded: Encoded
    samples: list[int] | None  # of the batch, those that are there; None for every one


class MaskedTokens(Objective):
    """Hide a share of a stream's ids and predict them (BERT; whole words; SpanBERT).

    Special ids and kinds are never hidden. Of what is hidden, a share turns into the mask id, a
    share into some other id, and the rest stays. The head (linear, GELU, layer norm) receives
    only hidden tokens, each one count.

    With `fusion` and `given` the prediction also sees other streams, whole (conditional masking,
    UNITER, Chen et al., 2020, section 3.2). The corrupted copy is shared: further heads may sit on
    the same pass (`step.shared`).

    Args:
        info: the streams.
        stream: whose ids are hidden.
        ratio: share of each segment's tokens to hide, to the nearest whole number.
        replace: share of the hidden tokens that turn into the mask id.
        random: share of the hidden tokens that turn into another id.
        units: hidden whole: a "token", a "word" (by the channel of that name), or a "span"; or
            with "concept" tokens whose word carries a concept and others in turn (CausaLM).
        span_stop: chance that a span ends after each token.
        longest_span: at most so many tokens.
        at_least: hide so many tokens of every segment that has them.
        labels: field with a label for each word, a tag say, that tells the concept.
        concept: the labels that do.
        amount: of a concept's units: "double" hides twice as many tokens as carry it, less where
            that is most of the text; "ratio" the ratio, at most double.
        cover: copy a text until every token with the concept is hidden in one of its copies.
        kinds: hide only tokens of these kinds; all but "special" unless given.
        head: "tied" to the encoder's own table of ids, or with its "own" weights.
        frequencies: scores start from the logarithms of how often each id was hidden so far, so
            that the vectors need not learn that first (see `polymodal.frequencies`).
        fusion: name of a fusion through which the prediction sees the streams `given`, whole.
        given: those streams; only samples that have all of them are scored.
        fusion_width: of the fusion's vectors; the stream's unless given.
        leave_out: chance of each token of the given streams to be left out (joint masking, which
            the paper compares with).

    Raises:
        ValueError: a share out of range; options that go together or don't; a stream without ids,
            mask id or words; an encoder without a table to tie to.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        ratio: float = 0.15,
        replace: float = 0.8,
        random: float = 0.1,
        units: Literal["token", "word", "span", "concept"] = "token",
        span_stop: float = 0.2,
        longest_span: int = 10,
        at_least: int = 1,
        labels: FieldName | None = None,
        concept: list[str] | None = None,
        amount: Literal["double", "ratio"] = "double",
        cover: bool = False,
        kinds: list[str] | None = None,
        head: Literal["tied", "own"] = "tied",
        frequencies: bool = False,
        fusion: ModuleName | None = None,
        given: list[StreamName] | None = None,
        fusion_width: int | None = None,
        leave_out: float = 0.0,
    ):
        super().__init__()
        self.context = Context.of(
            info, "masking.tokens", stream, given or [], fusion, fusion_width, leave_out
        )
        self.ratio = check_ratio(ratio)
        if replace < 0 or random < 0 or replace + random > 1:
            raise ValueError(
                f"replace and random must not be negative nor pass 1 together, "
                f"got {replace} and {random}"
            )
        if not 0 < span_stop < 1 or longest_span < 1:
            raise ValueError(
                f"span_stop must lie between 0 and 1 and longest_span be 1 or more, "
                f"got {span_stop} and {longest_span}"
            )
        if (units == "concept") != bool(labels and concept):
            raise ValueError("units concept, labels and concept go together: name all or none")
        if cover and (units != "concept" or fusion is not None):
            raise ValueError(
                "cover needs units concept, and no fusion: it would join the copies of a text"
            )
        self.stream = stream
        self.labels = labels
        self.concept = frozenset(concept or ())
        self.amount: Amount = amount
        self.cover = cover
        self.replace = replace
        self.random = random
        self.units = units
        self.span_stop = span_stop
        self.longest_span = longest_span
        self.at_least = at_least
        self.kinds = kinds
        self.head = head
        self.spec = info[stream].spec
        self._need().check(info, stream)
        # Given other streams, a stream's vectors alone do not say what it predicts.
        self.logits_of = None if given else "token"
        self.mask = self.spec.special.get("mask", 0)
        special = set(self.spec.special.values())
        ordinary = [i for i in range(self.spec.vocabulary) if i not in special]
        self.ordinary: Tensor
        self.register_buffer("ordinary", torch.tensor(ordinary or [0]), persistent=False)
        width = info[stream].width
        self.transform = nn.Sequential(
            nn.Linear(self.context.width, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.own = nn.Linear(width, self.spec.vocabulary, bias=False) if head == "own" else None
        self.bias = nn.Parameter(torch.zeros(self.spec.vocabulary))
        self.frequencies = Frequencies(self.spec.vocabulary) if frequencies else None

    def _need(self) -> Need:
        return Need(
            ids=True,
            special=("mask",) if self.replace else (),
            channels=("word",) if self.units in ("word", "concept") else (),
            table=self.head == "tied",
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with ids and a mask id, and the streams given."""
        return self.context.needs(self._need())

    def attach(self, model: PretrainingModel) -> None:
        """Refuse a fusion that does not fit."""
        self.context.check(model)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return self.context.uses()

    def fields(self) -> tuple[str, ...]:
        """Return the field that tells the concept, if one is read."""
        return () if self.labels is None else (self.labels,)

    def _choose(self, step: Step, tokens: Tokens, samples: list[int] | None) -> Hidden:
        """Return what is hidden, and which of those rows are not specials there by the way.

        How many tokens are hidden is settled on the host, which does not know how many of a
        segment's tokens are special; where too few others are left, specials fill the count.
        """
        layout = tokens.layout
        allowed = hideable(tokens, self.spec, self.kinds)
        noise = self.context.noise(step, "choice", samples)
        if self.units == "concept":
            return self._balanced(step, tokens, samples, allowed, noise)
        counts = hidden_counts(layout.lengths, self.ratio, at_least=self.at_least)
        if self.units == "word":
            word = layout.channels.get("word", layout.segment)  # a batch without tokens may lack it
            choice = choose_units(noise, word, layout, counts, allowed=allowed)
            return Hidden(tokens, choice.hidden, None)
        if self.units == "span":
            scores = span_scores(
                noise,
                self.context.noise(step, "span", samples),
                layout,
                stop=self.span_stop,
                longest=self.longest_span,
                allowed=allowed,
            )
        else:
            scores = put_last(noise, allowed)
        choice = choose(scores, layout, counts)
        counted = None if allowed is None else allowed[choice.hidden]
        return Hidden(tokens, choice.hidden, counted)

    def _balanced(
        self,
        step: Step,
        tokens: Tokens,
        samples: list[int] | None,
        allowed: Bool[Tensor, " token"] | None,
        noise: Float[Tensor, " token"],
    ) -> Hidden:
        assert self.labels is not None
        found: Any = step.labels(self.labels)
        marks = [
            None
            if found[row] is None
            else [class_name(label) in self.concept for label in found[row]]
            for row in (range(step.batch.samples) if samples is None else samples)
        ]
        concept = word_numbers(tokens, self.spec, marks, field=self.labels) == 1
        copies, choice, origin = choose_balanced(
            tokens,
            concept,
            torch.ones_like(concept) if allowed is None else allowed,
            noise,
            amount=self.amount,
            ratio=self.ratio,
            cover=self.cover,
        )
        return Hidden(copies, choice.hidden, None, origin)

    def share(self, step: Step) -> Masked:
        """Return the stream with some ids hidden, encoded."""
        samples = self.context.samples(step)
        hidden = self._choose(step, self.context.tokens(step, samples), samples)
        tokens, rows = hidden.tokens, hidden.rows
        assert tokens.ids is not None
        drawn_at = rows if hidden.origin is None else hidden.origin[rows]
        dice = self.context.noise(step, "dice", samples)[drawn_at]
        if hidden.counted is not None:
            dice = dice.masked_fill(~hidden.counted, 1)  # stays as it is
        ids = corrupted(
            tokens.ids,
            rows,
            dice,
            self.context.noise(step, "draw", samples)[drawn_at],
            mask=self.mask,
            ordinary=self.ordinary,
            replace=self.replace,
            random=self.random,
        )
        return Masked(hidden, self.context.encode(step, tokens.with_rows(ids), samples), samples)

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden tokens."""
        masked: Masked = step.shared(self)
        rows, counted = masked.hidden.rows, masked.hidden.counted
        tokens = masked.hidden.tokens
        assert tokens.ids is not None
        scores = self._scores(step, at(masked.encoded, rows))
        if self.frequencies:
            self.frequencies.note(tokens.ids[rows], counted)
        total, correct = token_loss(scores, tokens.ids[rows], counted)
        count = len(rows) if counted is None else counted.sum()
        return Loss(total, count, {"accuracy": (correct, count)})

    def logits(
        self, step: Step, stream: str, encoded: Encoded
    ) -> Float[Tensor, "token vocabulary"]:
        """Return the scores of each token's id."""
        return self._scores(step, encoded.vectors)

    def _scores(
        self, step: Step, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"]:
        head = step.encoder(self.stream).unembed if self.own is None else self.own
        scores = head(self.transform(vectors))
        assert scores is not None  # `needs` asks for a table
        scores = scores + self.bias
        return scores if self.frequencies is None else scores + self.frequencies()

    def after_update(self, step: Step) -> None:
        """Count what was hidden."""
        if self.frequencies:
            self.frequencies.update()

    def count(self, step: Step) -> int | Tensor:
        """Return how many tokens will be hidden."""
        samples = self.context.samples(step)
        hidden = self._choose(step, self.context.tokens(step, samples), samples)
        return len(hidden.rows) if hidden.counted is None else hidden.counted.sum()
