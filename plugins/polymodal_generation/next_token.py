"""Next-token prediction: causal language modelling over ids (Radford et al., 2018)."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from polymodal import FromRun, Loss, Need, Objective, Step, StreamInfo, StreamName
from polymodal_generation.shift import check_rows, followed, followed_count


class NextToken(Objective):
    """Predict each token's successor from it and the tokens before it.

    The last token of each segment predicts nothing; every other one is one count. The encoder must
    be causal. The metric `bits` is the loss in bits a token: perplexity is 2 to its power.

    Args:
        info: the streams.
        stream: whose ids are predicted.
        head: "tied" to the encoder's own table of ids, or a linear map of its "own".
        smoothing: share of the target's probability spread over the vocabulary.

    Raises:
        ValueError: a stream without ids, or with an encoder that is not causal or has no table to
            tie to.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        head: Literal["tied", "own"] = "tied",
        smoothing: float = 0.0,
    ):
        super().__init__()
        self.need = Need(ids=True, causal=True, table=head == "tied")
        self.need.check(info, stream)
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing}")
        self.stream = stream
        self.smoothing = smoothing
        vocabulary = info[stream].spec.vocabulary
        self.own = nn.Linear(info[stream].width, vocabulary) if head == "own" else None

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with ids."""
        return {self.stream: self.need}

    def forward(self, step: Step) -> Loss:
        """Return the loss over all tokens that another one follows."""
        encoder = step.encoder(self.stream)
        tokens = step.tokens(self.stream)
        assert tokens.ids is not None
        encoded = step.encode(self.stream)
        check_rows(encoded, self.stream, "generation.next_token")
        rows = followed(tokens.layout)
        vectors = encoded.vectors[rows]
        scores = encoder.unembed(vectors) if self.own is None else self.own(vectors)
        assert scores is not None  # `needs` asks for a table
        target = tokens.ids[rows + 1]
        total = F.cross_entropy(
            scores.float(), target, reduction="sum", label_smoothing=self.smoothing
        )
        with torch.no_grad():
            plain = F.cross_entropy(scores.float(), target, reduction="sum")
            right = (scores.argmax(dim=1) == target).sum()
        metrics = {"accuracy": (right, len(rows)), "bits": (plain / math.log(2), len(rows))}
        return Loss(total, len(rows), metrics)

    def count(self, step: Step) -> int:
        """Return how many tokens another one follows."""
        return followed_count(step.tokens(self.stream).layout)
