"""Predict heartbeats hidden behind the average one."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from polymodal import Encoded, FromRun, Layout, Loss, Need, Objective, Step, StreamInfo, StreamName
from torch import Tensor, nn


def averaged(
    values: Float[Tensor, "token feature"], hidden: Bool[Tensor, " token"], layout: Layout
) -> Float[Tensor, "token feature"]:
    """Return values with the mean of their segment's visible tokens in the place of hidden ones."""
    visible = (~hidden)[:, None].to(values.dtype)
    rows = torch.cat([values * visible, visible], dim=1)
    sums = Encoded.mean_pooled(layout, rows).pooled  # both halves divided by the segment's length
    mean = sums[:, :-1] / sums[:, -1:].clamp(min=1e-6)
    return torch.where(hidden[:, None], mean[layout.segment], values)


class HiddenBeats(Objective):
    """Hide some tokens behind the average of the others and predict their values.

    One beat of a heart is much like the next, so a blank in its place could be filled by copying
    a neighbour. With the average there already, what is left to learn is what sets a beat apart.
    The loss of a hidden token is the mean squared error over its values.

    Args:
        info: the streams.
        stream: whose tokens are hidden; any stream with values.
        ratio: chance of each token to be hidden.

    Raises:
        ValueError: no stream with values of this name, or a ratio outside (0, 1).
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        ratio: float = 0.4,
    ):
        super().__init__()
        Need(values=True).check(info, stream)
        if not 0 < ratio < 1:
            raise ValueError(f"ratio must lie between 0 and 1, got {ratio}")
        self.stream, self.ratio = stream, ratio
        self.head = nn.Linear(info[stream].width, info[stream].spec.features)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values."""
        return {self.stream: Need(values=True)}

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden tokens."""
        tokens = step.tokens(self.stream)
        assert tokens.values is not None  # `needs` says so
        hidden = step.uniform("hidden", tokens) < self.ratio
        shown = tokens.with_rows(averaged(tokens.values, hidden, tokens.layout))
        rows = hidden.nonzero()[:, 0]
        predicted = self.head(step.encode_tokens(self.stream, shown).vectors[rows]).float()
        error = (predicted - tokens.values[rows]).square().mean(dim=1)
        return Loss(error.sum(), len(rows))
