"""Masked prediction: hide some of a stream's tokens and predict what was there from the others."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from polymodal import (
    Candidates,
    Corrupted,
    Encoded,
    Frequencies,
    FromRun,
    Head,
    Hiding,
    Loss,
    Model,
    ModuleName,
    Need,
    Replacing,
    Scoring,
    Sharing,
    Step,
    StreamInfo,
    StreamName,
    Target,
    count_of,
    rename_keys,
)
from polymodal_heads import Linear, Tied
from polymodal_hiding import RandomTokens
from polymodal_masking.context import Context, at
from polymodal_replacing import Bert, Learned
from polymodal_targets import Ids, Values

# Where weights were before hiding, replacing, targets and heads were parts.
_FORMERLY = {
    "transform.": "head.transform.",
    "own.": "head.own.",
    "bias": "head.bias",
    "mask": "replace.vector",
    "head.weight": "head.linear.weight",
    "head.bias": "head.linear.bias",
    "codebook.": "targets.codebook.",
}


@dataclass(frozen=True, eq=False)
class Masked(Corrupted):
    """A corrupted stream, encoded: what `MaskedTokens` shares with other objectives."""

    encoded: Encoded
    samples: list[int] | None  # of the batch, those that are there; None for every one


class MaskedTokens(Scoring, Sharing):
    """Hide some of a stream's tokens, put others in their place, and predict what was there.

    Its parts say which and how. Left out, they are BERT's for streams with ids (15 % of the tokens,
    80 % of them the mask id and 10 % another, the encoder's own table) and SimMIM's for streams
    with values (60 %, a learned vector, l1, a linear layer). Special ids and kinds are never
    hidden. The head receives only the tokens that are scored, each one count.

    With `fusion` and `given` the prediction also sees other streams, whole (conditional masking,
    UNITER, Chen et al., 2020, section 3.2). The corrupted copy is shared: further heads may sit on
    the same pass (`step.shared`).

    Args:
        info: the streams.
        stream: whose tokens are hidden.
        hide: which tokens.
        replace: what stands in their place.
        targets: what is predicted.
        head: that predicts it.
        kinds: hide only tokens of these kinds; all but "special" unless given.
        frequencies: scores start from the logarithms of how often each id was hidden so far, so
            that the vectors need not learn that first (see `Frequencies`).
        fusion: name of a fusion through which the prediction sees the streams `given`, whole.
        given: those streams; only samples that have all of them are scored.
        fusion_width: of the fusion's vectors; the stream's unless given.
        leave_out: chance of each token of the given streams to be left out (joint masking, which
            the paper compares with).
        noise: name by which random numbers are drawn: objectives with the same one that hide
            alike hide the same tokens of a stream.

    Raises:
        ValueError: parts that do not fit the stream or each other; options that go together.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        hide: Hiding | None = None,
        replace: Replacing | None = None,
        targets: Target | None = None,
        head: Head | None = None,
        kinds: list[str] | None = None,
        frequencies: bool = False,
        fusion: ModuleName | None = None,
        given: list[StreamName] | None = None,
        fusion_width: int | None = None,
        leave_out: float = 0.0,
        noise: str = "masking.tokens",
    ):
        super().__init__()
        self.context = Context.of(info, noise, stream, given or [], fusion, fusion_width, leave_out)
        self.stream = stream
        self.spec = info[stream].spec
        self.kinds = kinds
        ids = self.spec.vocabulary > 0
        self.hide = hide or RandomTokens(0.15 if ids else 0.6)
        self.replace = replace or (Bert() if ids else Learned())
        self.targets = targets or (Ids() if ids else Values())
        self.head = head or (Tied() if self.targets.classes else Linear())
        self._need().check(info, stream)
        self.hide.bind(info[stream])
        self.replace.bind(info[stream])
        self.targets.bind(info[stream])
        self.head.bind(self.context.width, self.targets.outputs, info[stream])
        if frequencies and not self.targets.classes:
            raise ValueError("frequencies needs targets that are ids: set it to false")
        self.frequencies = Frequencies(self.targets.outputs) if frequencies else None
        # Given other streams, a stream's vectors alone do not say what it predicts.
        self.logits_of = None if given or not self.targets.classes else "token"
        rename_keys(self, _FORMERLY)

    def _need(self) -> Need:
        parts = (self.hide, self.replace, self.targets, self.head)
        return Need.all(part.need() for part in parts)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with what the parts ask of it, and the streams given."""
        return self.context.needs(self._need())

    def attach(self, model: Model) -> None:
        """Refuse a fusion that does not fit."""
        self.context.check(model)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return self.context.uses()

    def fields(self) -> tuple[str, ...]:
        """Return the fields by which tokens are chosen."""
        return self.hide.fields()

    def _candidates(self, step: Step, samples: list[int] | None) -> Candidates:
        return self.context.candidates(step, samples, spec=self.spec, kinds=self.kinds)

    def share(self, step: Step) -> Masked:
        """Return the stream with some tokens replaced, encoded."""
        samples = self.context.samples(step)
        among = self._candidates(step, samples)
        hidden = self.hide.choose(among)
        if hidden.origin is not None and self.context.fusion is not None:
            raise ValueError("copies of a text can't be joined with other streams: no fusion then")
        tokens = self.replace.replace(hidden, among)
        encoded = self.context.encode(step, tokens, samples)
        return Masked(among, hidden, tokens, encoded, samples)

    def forward(self, step: Step) -> Loss:
        """Return the loss over the tokens that are scored."""
        masked: Masked = step.shared(self)
        rows, counted = self.targets.scored(masked.hidden, masked.among)
        scores = self._scores(step, at(masked.encoded, rows))
        ids = masked.hidden.tokens.ids
        if self.frequencies and ids is not None:
            self.frequencies.note(ids[rows], counted)
        self.replace.learn(masked, scores.detach(), rows)
        total, metrics = self.targets.loss(scores, masked, rows, counted)
        return Loss(total, count_of(rows, counted), metrics)

    def logits(
        self, step: Step, stream: str, encoded: Encoded
    ) -> Float[Tensor, "token vocabulary"]:
        """Return the scores of each token's id."""
        return self._scores(step, encoded.vectors)

    def _scores(
        self, step: Step, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row output"]:
        scores = self.head.predict(vectors, step.encoder(self.stream).unembed)
        return scores if self.frequencies is None else scores + self.frequencies()

    def after_update(self, step: Step) -> None:
        """Count what was hidden, and let the replacing learn."""
        if self.frequencies:
            self.frequencies.update()
        self.replace.after_update()

    def count(self, step: Step) -> int | Tensor:
        """Return how many tokens will be scored."""
        among = self._candidates(step, self.context.samples(step))
        return count_of(*self.targets.scored(self.hide.choose(among), among))
