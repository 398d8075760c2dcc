"""Tag prediction: hide all tokens of one kind and tell each from the tokens around it."""

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from polymodal import (
    Frequencies,
    FromRun,
    Loss,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
)
from polymodal_masking.context import at


class MaskedKind(Objective):
    """Replace every token of a kind by the mask id, and predict it by the encoder's own table.

    With the tags of a diff's lines this is diff tag prediction (CodeReviewer, Li et al., 2022,
    section 3.2.1): whether a line was added, deleted or kept is told from the lines. The scores are
    the encoder's vectors times the table of all ids, no layer and no bias between. Each hidden
    token is one count; the metric is `accuracy`.

    Args:
        info: the streams.
        stream: whose tokens.
        kind: of the tokens that are hidden, as the tokenizer names it.
        frequencies: scores start from the logarithms of how often each id was a target so far, so
            that the vectors need not learn that first (see `polymodal.frequencies`).

    Raises:
        ValueError: a stream without ids, mask id or this kind, or an encoder without a table.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        kind: str = "tag",
        frequencies: bool = False,
    ):
        super().__init__()
        self.need = Need(ids=True, special=("mask",), table=True)
        self.need.check(info, stream)
        spec = info[stream].spec
        if kind not in spec.kinds:
            raise ValueError(
                f"kind must be one of the kinds of {stream!r} ({', '.join(spec.kinds)}), "
                f"got {kind!r}"
            )
        self.stream = stream
        self.kind = spec.kinds.index(kind)
        self.mask = spec.special["mask"]
        self.frequencies = Frequencies(spec.vocabulary) if frequencies else None

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with ids and a mask id."""
        return {self.stream: self.need}

    def _rows(self, tokens: Tokens) -> Int[Tensor, " hidden"]:
        kinds = tokens.layout.kinds
        if kinds is None:  # all of the first kind
            kinds = tokens.layout.segment.new_zeros(tokens.layout.tokens)
        return (kinds == self.kind).nonzero()[:, 0]

    def forward(self, step: Step) -> Loss:
        """Return the cross-entropy over the hidden tokens."""
        tokens = step.tokens(self.stream)
        assert tokens.ids is not None
        rows = self._rows(tokens)
        hidden = tokens.with_rows(tokens.ids.index_fill(0, rows, self.mask))
        vectors = at(step.encode_tokens(self.stream, hidden), rows)
        scores = step.encoder(self.stream).unembed(vectors)
        assert scores is not None  # `needs` asks for a table
        target = tokens.ids[rows]
        if self.frequencies:
            scores = scores + self.frequencies()
            self.frequencies.note(target)
        total = F.cross_entropy(scores.float(), target, reduction="sum")
        right = (scores.argmax(dim=1) == target).sum()
        return Loss(total, len(rows), {"accuracy": (right, len(rows))})

    def after_update(self, step: Step) -> None:
        """Count what was hidden."""
        if self.frequencies:
            self.frequencies.update()

    def count(self, step: Step) -> int:
        """Return how many tokens will be hidden."""
        return len(self._rows(step.tokens(self.stream)))
