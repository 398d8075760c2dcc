"""InfoNCE between streams: which of the batch's samples is this one's partner?"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    Comparison,
    Encoded,
    FromRun,
    Loss,
    Need,
    Representing,
    Step,
    StreamInfo,
    StreamName,
)
from polymodal_contrastive.losses import info_nce
from polymodal_contrastive.pairs import (
    HeadKind,
    Projections,
    by_pair,
    check_streams,
    compared,
    fields_read,
    log_scale,
    needed,
    pair_vectors,
    sides,
)
from polymodal_contrastive.symmetric import symmetric_info_nce

LARGEST_SCALE = 100.0


class InfoNCE(Comparison, Representing):
    """Contrast two or more streams by their samples' pooled vectors (Radford et al., 2021).

    A pair of streams is compared over the samples that have both; those of all ranks are each
    other's negatives. The count is these rows, added over pairs. The temperature is kept as the
    log of its inverse, in one element, bounded by 100 as in CLIP.

    Args:
        info: the streams.
        streams: two or more to compare.
        anchor: compare this one with each other one; all pairs unless given.
        pairs: compare these pairs alone.
        symmetric: the mean of both directions, or only from the first of a pair to the second.
        dim: of the vectors compared.
        heads: from an encoder's width to `dim`: "linear", "mlp" (one hidden layer), or "none".
        temperature: at the start, 0.01 to 1.
        learn_temperature: whether it is trained.
        same: a stream or a field; samples equal in it are no negatives of each other (captions
            that repeat, class names).
        tile: build the similarity matrix by so many rows at a time; unless given, by 4 million
            entries where it has more than 16 million. Memory grows with the batch instead of its
            square.

    Raises:
        ValueError: unknown or repeated streams, both anchor and pairs, a bad number.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        anchor: StreamName | None = None,
        pairs: list[tuple[StreamName, StreamName]] | None = None,
        symmetric: bool = True,
        dim: int = 256,
        heads: HeadKind = "linear",
        temperature: float = 0.07,
        learn_temperature: bool = True,
        same: str | None = None,
        tile: int | None = None,
    ):
        super().__init__()
        check_streams(info, streams, least=2)
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be 1 or more, got {tile}")
        self.streams = tuple(streams)
        self.pairs = compared(streams, anchor, pairs)
        self.symmetric = symmetric
        self.same = same
        self.needed = needed(info, streams, same)
        self.read = fields_read(info, same)
        self.tile = tile
        self.projections = Projections(info, streams, dim=dim, heads=heads)
        self.log_scale: nn.Parameter = log_scale(temperature, learned=learn_temperature)

    def needs(self) -> Mapping[str, Need]:
        """Return the streams compared, and the one that `same` names; any tokens will do."""
        return self.needed

    def fields(self) -> tuple[str, ...]:
        """Return the field that `same` names."""
        return self.read

    def vectors(self, step: Step) -> tuple[Tensor, ...]:
        """Return the vectors of every pair's samples that have both streams, and their keys."""
        return pair_vectors(step, self.pairs, self.projections, self.same)

    def compare(self, step: Step, vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over the rows of every pair."""
        scale = self.log_scale.exp()  # its bounds are kept after each update alone
        total, correct, count = scale.new_zeros(()), scale.new_zeros(()), 0
        for one, other, keys in by_pair(vectors):
            both = sides(step, one, other, keys)
            options: dict[str, Any] = {**vars(both), "scale": scale, "tile": self.tile}
            if self.symmetric:
                loss, right = symmetric_info_nce(**options, add=step.sum)
            else:
                loss, right = info_nce(**options)
            total, correct, count = total + loss, correct + right, count + len(one)
        metrics = {"accuracy": (correct, count), "temperature": (1 / scale.detach().sum(), 1)}
        return Loss(total, count, metrics)

    def count(self, step: Step) -> int:
        """Return the rows of every pair that have both streams."""
        return sum(len(step.rows_with(*pair)) for pair in self.pairs)

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return the samples' vectors by which this objective compares them, normalised."""
        if stream not in self.streams:
            return super().project(stream, encoded)
        return self.projections(stream, encoded.pooled_rows())

    def after_update(self, step: Step) -> None:
        """Keep the scale between 1 and 100, so that a step past the bound can come back."""
        with torch.no_grad():
            self.log_scale.clamp_(0, math.log(LARGEST_SCALE))
