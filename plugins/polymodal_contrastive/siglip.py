"""The pairwise sigmoid loss between streams: does this pair belong together?"""

import math
from collections.abc import Mapping
from typing import Literal

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
    world_size,
)
from polymodal_contrastive.losses import siglip_loss
from polymodal_contrastive.pairs import (
    HeadKind,
    Projections,
    by_pair,
    check_streams,
    compared,
    fields_read,
    needed,
    pair_vectors,
    sides,
)
from polymodal_contrastive.ring import siglip_ring


class SigLIP(Comparison, Representing):
    """Contrast two or more streams pair by pair, without a softmax over the batch (Zhai et al.).

    The loss of "Sigmoid loss for language image pre-training" (2023), eq. 1: it adds up all pairs
    of rows, of all ranks, and its count is the rows. Scale and bias are learned (section 3.2). A
    pair of streams is scored once, not in both directions.

    Args:
        info: the streams.
        streams: two or more to compare.
        anchor: compare this one with each other one; all pairs unless given.
        pairs: compare these pairs alone.
        dim: of the vectors compared.
        heads: from an encoder's width to `dim`: "linear", "mlp" (one hidden layer), or "none".
        scale: of the similarities at the start.
        bias: added to them at the start; low, since most pairs don't belong together.
        same: a stream or a field; samples equal in it are left out as negatives of each other.
        tile: build the similarity matrix by so many rows at a time; unless given, by 4 million
            entries where it has more than 16 million.
        exchange: what ranks do with each other's vectors: "gather" them all, or pass them round in
            a "ring", a rank's at a time, which takes less memory and more steps.

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
        dim: int = 256,
        heads: HeadKind = "linear",
        scale: float = 10.0,
        bias: float = -10.0,
        same: str | None = None,
        tile: int | None = None,
        exchange: Literal["gather", "ring"] = "gather",
    ):
        super().__init__()
        check_streams(info, streams, least=2)
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be 1 or more, got {tile}")
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        self.streams = tuple(streams)
        self.pairs = compared(streams, anchor, pairs)
        self.same = same
        self.needed = needed(info, streams, same)
        self.read = fields_read(info, same)
        self.tile = tile
        self.exchange = exchange
        self.projections = Projections(info, streams, dim=dim, heads=heads)
        self.log_scale = nn.Parameter(torch.tensor([math.log(scale)]))
        self.bias = nn.Parameter(torch.tensor([float(bias)]))

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
        scale, bias = self.log_scale.exp(), self.bias
        total, correct, count = scale.new_zeros(()), scale.new_zeros(()), 0
        ring = self.exchange == "ring" and step.training and world_size() > 1
        for one, other, keys in by_pair(vectors):
            if ring:
                loss, right = siglip_ring(
                    one, other, scale=scale, bias=bias, keys=keys, tile=self.tile
                )
            else:
                both = sides(step, one, other, keys)
                loss, right = siglip_loss(**vars(both), scale=scale, bias=bias, tile=self.tile)
            total, correct, count = total + loss, correct + right, count + len(one)
        metrics = {
            "accuracy": (correct, count),
            "scale": (scale.detach().sum(), 1),
            "bias": (bias.detach().sum(), 1),
        }
        return Loss(total, count, metrics)

    def count(self, step: Step) -> int:
        """Return the rows of every pair that have both streams."""
        return sum(len(step.rows_with(*pair)) for pair in self.pairs)

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return the samples' vectors by which this objective compares them, normalised."""
        if stream not in self.streams:
            return super().project(stream, encoded)
        return self.projections(stream, encoded.pooled_rows())
