"""SimMIM: replace hidden values by a learned token and predict them (Xie et al., 2022)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    FromRun,
    Loss,
    Model,
    ModuleName,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
)
from polymodal_masking.choice import Choice, Rounding, check_ratio
from polymodal_masking.context import Context, at
from polymodal_masking.losses import Distance, normalized, patch_loss
from polymodal_masking.shapes import Shape, check_shape, choose_places


def replaced(
    values: Float[Tensor, "token feature"], rows: Tensor, token: Float[Tensor, " feature"]
) -> Float[Tensor, "token feature"]:
    """Return values with one vector in the place of these rows."""
    fill = token.to(values.dtype).expand(len(rows), -1)
    return values.index_put((rows,), fill)


class SimMIM(Objective):
    """Replace a share of a stream's values by a learned token and predict them by a linear head.

    The token stands in the place of the values, so that the stem adds the position to it as to any
    other; structure (positions, edges) stays. The loss of a hidden token is the mean over its
    values, and each hidden token is one count. For any stream with values.

    Args:
        info: the streams.
        stream: whose values are hidden.
        ratio: share of each segment's tokens to hide; at least one.
        shape: "random" tokens, "block" (rectangles of the last two axes), or "tube" (the same
            places at all times: axes after the first).
        rounding: of the number hidden.
        distance: between predicted and true values; l1 in the paper.
        normalize_targets: predict each token's values less their mean, over their deviation.
        fusion: name of a fusion through which the prediction sees the streams `given`, whole.
        given: those streams; only samples that have all of them are scored.
        fusion_width: of the fusion's vectors; the stream's unless given.

    Raises:
        ValueError: a share out of range, a stream without values, or a shape its positions
            can't take; at the first step, a fusion of another width.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        ratio: float = 0.6,
        shape: Shape = "random",
        rounding: Rounding = "nearest",
        distance: Distance = "l1",
        normalize_targets: bool = False,
        fusion: ModuleName | None = None,
        given: list[StreamName] | None = None,
        fusion_width: int | None = None,
    ):
        super().__init__()
        self.context = Context.of(info, "masking.simmim", stream, given or [], fusion, fusion_width)
        spec = info[stream].spec
        Need(values=True).check(info, stream)
        if normalize_targets and spec.features < 2:
            raise ValueError("normalize_targets needs two values a token or more; set it to false")
        self.stream = stream
        self.ratio = check_ratio(ratio)
        self.shape = check_shape(shape, info[stream])
        self.rounding: Rounding = rounding
        self.distance: Distance = distance
        self.normalize_targets = normalize_targets
        self.mask = nn.Parameter(torch.randn(spec.features) * 0.02)
        self.head = nn.Linear(self.context.width, spec.features)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values, and the streams given."""
        return self.context.needs(Need(values=True))

    def attach(self, model: Model) -> None:
        """Refuse a fusion that does not fit."""
        self.context.check(model)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return self.context.uses()

    def _choose(self, step: Step, tokens: Tokens, samples: list[int] | None) -> Choice:
        return choose_places(
            step,
            self.context,
            tokens,
            samples,
            shape=self.shape,
            ratio=self.ratio,
            rounding=self.rounding,
            leave=0,
        )

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden tokens."""
        samples = self.context.samples(step)
        tokens = self.context.tokens(step, samples)
        assert tokens.values is not None
        rows = self._choose(step, tokens, samples).hidden
        masked = tokens.with_rows(replaced(tokens.values, rows, self.mask))
        predicted = self.head(at(self.context.encode(step, masked, samples), rows))
        target = tokens.values[rows]
        if self.normalize_targets:
            target = normalized(target)
        return Loss(patch_loss(predicted, target, self.distance).sum(), len(rows))

    def count(self, step: Step) -> int:
        """Return how many tokens will be hidden."""
        samples = self.context.samples(step)
        return len(self._choose(step, self.context.tokens(step, samples), samples).hidden)
