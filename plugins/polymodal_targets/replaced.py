"""Whether a token was replaced."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Candidates, Corrupted, Hidden, Need, StreamInfo, Target


class Replaced(Target):
    """Tell which tokens were replaced (random token substitution, Di Liello, 2023).

    Every token that may be hidden is scored, one number each: above 0 for a fake. A token that was
    chosen counts as a fake also where the same id was drawn. Metrics are `accuracy`, and `found`,
    the share of the fakes that are told.

    Args:
        weight: of the loss; 50 in the paper's code, which adds it to losses over whole
            vocabularies.
    """

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight
        self.outputs = 1

    def need(self) -> Need:
        """Return that the stream must have ids."""
        return Need(ids=True)

    def bind(self, info: StreamInfo) -> None:
        """One number a token, whatever the stream."""

    def scored(
        self, hidden: Hidden, among: Candidates
    ) -> tuple[Int[Tensor, " scored"], Bool[Tensor, " scored"] | None]:
        """Return every token, and which of them may be hidden."""
        rows = torch.arange(hidden.tokens.layout.tokens, device=hidden.rows.device)
        allowed = among.allowed
        if allowed is not None and hidden.origin is not None:
            allowed = allowed[hidden.origin]
        return rows, allowed

    def loss(
        self,
        predicted: Float[Tensor, "scored output"],
        corrupted: Corrupted,
        rows: Int[Tensor, " scored"],
        counted: Bool[Tensor, " scored"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, tuple[Tensor, int | Tensor]]]:
        """Return the summed cross-entropy of fake against real."""
        hidden = corrupted.hidden
        chosen = hidden.rows if hidden.counted is None else hidden.rows[hidden.counted]
        fake = torch.zeros_like(predicted[:, 0]).index_fill(0, chosen, 1.0)
        each = F.binary_cross_entropy_with_logits(
            predicted[:, 0].float(), fake.float(), reduction="none"
        )
        right = (predicted[:, 0] > 0) == (fake > 0)
        found = right & (fake > 0)
        if counted is not None:
            each, right = each.masked_fill(~counted, 0), right & counted
        count = len(rows) if counted is None else counted.sum()
        return self.weight * each.sum(), {
            "accuracy": (right.sum(), count),
            "found": (found.sum(), len(chosen)),
        }
