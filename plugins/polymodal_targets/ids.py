"""The ids that were hidden."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Corrupted, Need, StreamInfo, Target


class Ids(Target):
    """Predict the ids that were hidden, by cross-entropy; the metric is `accuracy`."""

    classes = True

    def need(self) -> Need:
        """Return that the stream must have ids."""
        return Need(ids=True)

    def bind(self, info: StreamInfo) -> None:
        """Take the vocabulary for classes."""
        self.outputs = info.spec.vocabulary

    def loss(
        self,
        predicted: Float[Tensor, "scored output"],
        corrupted: Corrupted,
        rows: Int[Tensor, " scored"],
        counted: Bool[Tensor, " scored"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, tuple[Tensor, int | Tensor]]]:
        """Return the summed cross-entropy, and how many are right."""
        ids = corrupted.hidden.tokens.ids
        assert ids is not None
        total, right = token_loss(predicted, ids[rows], counted)
        return total, {"accuracy": (right, len(rows) if counted is None else counted.sum())}


def token_loss(
    logits: Float[Tensor, "hidden vocabulary"],
    target: Int[Tensor, " hidden"],
    weights: Bool[Tensor, " hidden"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the summed cross-entropy and how many rows' highest score is the target.

    Rows whose weight is False count for nothing.
    """
    each = F.cross_entropy(logits.float(), target, reduction="none")
    with torch.no_grad():
        right = (logits.argmax(dim=1) == target).float()
    if weights is not None:
        # Not a product: a row that counts for nothing must not bring in an infinite loss.
        each = each.masked_fill(~weights, 0)
        right = right.masked_fill(~weights, 0)
    return each.sum(), right.sum()
