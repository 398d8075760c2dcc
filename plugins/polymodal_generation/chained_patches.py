"""Next-patch prediction over chained modalities (AstroPT on Euclid, Siudek et al., 2025)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    Encoded,
    FromRun,
    Fusion,
    Layout,
    Loss,
    Model,
    ModuleName,
    Need,
    Representing,
    Step,
    StreamInfo,
    StreamName,
    join_layouts,
)
from polymodal_fusion import fuse
from polymodal_generation.next_patch import regression_loss, value_head
from polymodal_generation.shift import check_rows

Preceded = tuple[Int[Tensor, " row"], Int[np.ndarray, " sample"]]


class ChainedPatches(Representing):
    """Regress every token's values from all tokens before it, in its own stream and earlier ones.

    The streams of a sample are one sequence, and the last token of one predicts the first token of
    the next. Only the first token of the sequence is not predicted, and the last predicts nothing.
    A sample's loss is the mean over its streams of weight times the mean distance of the stream's
    predicted tokens, so that lengths do not weigh, and a stream that it lacks is left out. Samples
    of two tokens or more are the count: in any micro-batches and on any number of ranks the loss
    is that of the whole batch. The metric of a stream's name is the distance a token.

    Args:
        info: the streams.
        fusion: name of the fusion that chains the streams: causal, in the same order.
        streams: in the order of the sequence; all, by name, unless given.
        weights: of streams in the loss; 1 unless given.
        distance: between predicted and true values, their mean.
        delta: where the Huber distance turns from square to straight.
        head: of each stream, "linear", or an "mlp" with one hidden layer.

    Raises:
        ValueError: a stream without values or with an encoder that is not causal, a weight that is
            negative or of no stream; when the model is built, a fusion that is not causal or
            chains other streams.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        fusion: ModuleName,
        streams: list[StreamName] | None = None,
        weights: dict[str, float] | None = None,
        distance: Literal["huber", "mse", "l1"] = "huber",
        delta: float = 1.0,
        head: Literal["linear", "mlp"] = "mlp",
    ):
        super().__init__()
        self.streams = tuple(sorted(info) if streams is None else streams)
        self.weights = dict.fromkeys(self.streams, 1.0) | (weights or {})
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise ValueError(f"streams must be different ones, got {list(self.streams)}")
        for stream, need in self.needs().items():
            need.check(info, stream)
        if set(self.weights) != set(self.streams) or min(self.weights.values()) < 0:
            raise ValueError(
                f"weights must be 0 or more, of {', '.join(self.streams)}, got {weights}"
            )
        if delta <= 0:
            raise ValueError(f"delta must be above 0, got {delta}")
        self.fusion = fusion
        self.width = info[self.streams[0]].width
        self.distance: Literal["huber", "mse", "l1"] = distance
        self.delta = delta
        self.heads = nn.ModuleList(
            value_head(self.width, info[stream].spec.features, kind=head) for stream in self.streams
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams, with values."""
        return {stream: Need(values=True, causal=True) for stream in self.streams}

    def uses(self) -> tuple[str, ...]:
        """Return the fusion."""
        return (self.fusion,)

    def attach(self, model: Model) -> None:
        """Refuse a fusion that lets tokens see what they predict, or chains other streams.

        Raises:
            ValueError: why.
        """
        fusion = model.module(self.fusion)
        chained = tuple(fusion.needs()) if isinstance(fusion, Fusion) else ()
        if chained != self.streams or not (isinstance(fusion, Fusion) and fusion.causal):
            raise ValueError(
                f"the module {self.fusion!r} must be a causal fusion of {list(self.streams)} in "
                f"this order, as fusion.causal_chain, but it reads {list(chained)}"
            )

    def forward(self, step: Step) -> Loss:
        """Return the loss over all samples of two tokens or more."""
        predicted = self.predict(step)
        layouts = self._layouts(step)
        targets = preceded(layouts)
        streams = torch.from_numpy(_streams_predicted(targets)).to(layouts[0].device)
        losses = torch.zeros(len(streams), device=streams.device)
        metrics = {}
        for stream, layout, (rows, counts) in zip(self.streams, layouts, targets, strict=True):
            values = step.tokens(stream).values
            assert values is not None
            each = regression_loss(
                predicted[stream], values[rows], distance=self.distance, delta=self.delta
            )
            total = torch.zeros_like(losses).index_add(0, layout.sample[rows], each)
            count = torch.from_numpy(counts).to(losses.device).clamp(min=1)
            losses = losses + self.weights[stream] * total / count
            metrics[stream] = (each.detach().sum(), len(rows))
        return Loss((losses / streams.clamp(min=1)).sum(), self.count(step), metrics)

    def predict(self, step: Step) -> Mapping[str, Float[Tensor, "row feature"]]:
        """Return the values predicted for the rows of each stream that `preceded` names."""
        fused = self._fused(step)
        layouts = self._layouts(step)
        _, order, places = join_layouts(layouts)
        chained = torch.cat([fused[stream].vectors for stream in self.streams])[order]
        parts = zip(self.streams, self.heads, places, preceded(layouts), strict=True)
        return {stream: head(chained[place[rows] - 1]) for stream, head, place, (rows, _) in parts}

    def count(self, step: Step) -> int:
        """Return how many samples have a token to predict."""
        return int((_streams_predicted(preceded(self._layouts(step))) > 0).sum())

    def beside(self, stream: str) -> tuple[str, ...]:
        """Return the other streams of the sequence."""
        return tuple(other for other in self.streams if other != stream)

    def represent(self, step: Step, stream: str) -> Float[Tensor, "sample width"]:
        """Return the stream's pooled vectors within the sequence.

        What comes first in the sequence sees nothing of what follows: the last stream knows most.
        """
        return self._fused(step)[stream].pooled_rows()

    def _layouts(self, step: Step) -> list[Layout]:
        return [step.tokens(stream).layout for stream in self.streams]

    def _fused(self, step: Step) -> Mapping[str, Encoded]:
        parts = {stream: step.encode(stream) for stream in self.streams}
        for stream, part in parts.items():
            check_rows(part, stream, "generation.chained_patches")
        return fuse(step.module(self.fusion), parts, width=self.width)


def preceded(layouts: Sequence[Layout]) -> list[Preceded]:
    """Return, for each of several chained layouts, its rows that another token comes before.

    They are all but the first token of each sample; beside them, how many each sample has, on the
    host.
    """
    samples = layouts[0].samples
    started = np.zeros(samples, dtype=bool)
    found = []
    for layout in layouts:
        lengths, owners = np.array([layout.lengths, layout.owners], dtype=np.int64)
        filled = np.flatnonzero(lengths)
        sample, first = np.unique(owners[filled], return_index=True)
        new = ~started[sample]  # samples whose sequence begins in this stream
        keep = np.ones(layout.tokens, dtype=bool)
        keep[(lengths.cumsum() - lengths)[filled[first[new]]]] = False
        counts = np.bincount(owners, weights=lengths, minlength=samples).astype(np.int64)
        counts[sample[new]] -= 1
        started[sample] = True
        rows = torch.from_numpy(np.flatnonzero(keep)).to(layout.device, non_blocking=True)
        found.append((rows, counts))
    return found


def _streams_predicted(targets: Sequence[Preceded]) -> Int[np.ndarray, " sample"]:
    """Return in how many streams each sample has a token to predict."""
    return np.asarray(sum((counts > 0).astype(np.int64) for _, counts in targets))
