"""Next-patch prediction: autoregression over continuous tokens (AstroPT, Smith et al., 2024)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import FromRun, Loss, Need, Objective, Step, StreamInfo, StreamName
from polymodal_generation.shift import check_rows, followed, followed_count
from polymodal_targets import normalized


def regression_loss(
    predicted: Float[Tensor, "row feature"],
    target: Float[Tensor, "row feature"],
    *,
    distance: Literal["huber", "mse", "l1"] = "huber",
    delta: float = 1.0,
) -> Float[Tensor, " row"]:
    """Return each row's mean distance over its features, in float32."""
    predicted, target = predicted.float(), target.float()
    if distance == "huber":
        each = F.huber_loss(predicted, target, reduction="none", delta=delta)
    elif distance == "mse":
        each = (predicted - target).square()
    else:
        each = (predicted - target).abs()
    return each.mean(dim=1)


def value_head(width: int, features: int, *, kind: Literal["linear", "mlp"]) -> nn.Module:
    """Return a map from vectors to values: linear, or with one hidden layer."""
    last = nn.Linear(width, features)
    return last if kind == "linear" else nn.Sequential(nn.Linear(width, width), nn.GELU(), last)


class NextPatch(Objective):
    """Regress each token's successor's values from it and the tokens before it.

    The last token of each segment predicts nothing; every other one is one count. The encoder must
    be causal; the order is the tokenizer's. The metric `copying` is the same distance for a
    prediction that repeats the token itself: a model that has learned anything is below it.

    Args:
        info: the streams.
        stream: whose values are predicted.
        distance: between predicted and true values, their mean.
        delta: where the Huber distance turns from square to straight.
        normalize: predict each token's values less their mean, over their deviation.
        head: "linear", or an "mlp" with one hidden layer.

    Raises:
        ValueError: a stream without values, or with an encoder that is not causal.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        distance: Literal["huber", "mse", "l1"] = "huber",
        delta: float = 1.0,
        normalize: bool = False,
        head: Literal["linear", "mlp"] = "mlp",
    ):
        super().__init__()
        Need(values=True, causal=True).check(info, stream)
        spec, width = info[stream].spec, info[stream].width
        if delta <= 0:
            raise ValueError(f"delta must be above 0, got {delta}")
        if normalize and spec.features < 2:
            raise ValueError("normalize needs two values a token or more; set it to false")
        self.stream = stream
        self.distance: Literal["huber", "mse", "l1"] = distance
        self.delta = delta
        self.normalize = normalize
        self.head = value_head(width, spec.features, kind=head)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values."""
        return {self.stream: Need(values=True, causal=True)}

    def forward(self, step: Step) -> Loss:
        """Return the loss over all tokens that another one follows."""
        tokens = step.tokens(self.stream)
        assert tokens.values is not None
        encoded = step.encode(self.stream)
        check_rows(encoded, self.stream, "generation.next_patch")
        rows = followed(tokens.layout)
        values = normalized(tokens.values) if self.normalize else tokens.values
        target = values[rows + 1]
        predicted = self.head(encoded.vectors[rows])
        total = regression_loss(predicted, target, distance=self.distance, delta=self.delta).sum()
        with torch.no_grad():
            copied = regression_loss(
                values[rows], target, distance=self.distance, delta=self.delta
            ).sum()
        return Loss(total, len(rows), {"copying": (copied, len(rows))})

    def count(self, step: Step) -> int:
        """Return how many tokens another one follows."""
        return followed_count(step.tokens(self.stream).layout)
