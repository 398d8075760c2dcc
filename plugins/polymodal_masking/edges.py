"""Masked edge modelling: hide edges of a graph and tell them from pairs that are not joined."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import (
    FromRun,
    Layout,
    Loss,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Taps,
    check_ratio,
    hash_words,
    mix,
)
from polymodal_masking.context import Context, at
from polymodal_masking.pairs import PairScore, Score, pair_loss


def edge_noise(
    noise: Float[Tensor, " token"], edges: Int[Tensor, "2 edge"], name: str
) -> Float[Tensor, " edge"]:
    """Return noise in [0, 1) for each edge, from that of its ends in their order.

    Like the noise of tokens it does not depend on how the batch is packed. Give the ends sorted,
    and both directions of an edge get the same.
    """
    bits = (noise * 2**24).long()
    first, second = bits[edges[0]], bits[edges[1]]
    mixed = mix(mix(first ^ hash_words(name)) + second)
    return ((mixed >> 40) & ((1 << 24) - 1)).to(torch.float32) * 2.0**-24


def without_edges(layout: Layout, hidden: Bool[Tensor, " edge"]) -> Layout:
    """Return the layout less these edges; waits for the device."""
    if layout.edges is None:
        return layout
    kept = (~hidden).nonzero()[:, 0]
    kinds, values = layout.edge_kinds, layout.edge_values
    return replace(
        layout,
        edges=layout.edges[:, kept],
        edge_kinds=None if kinds is None else kinds[kept],
        edge_values=None if values is None else values[kept],
    )


def joined(
    pairs: Int[Tensor, "2 pair"], edges: Int[Tensor, "2 edge"], tokens: int
) -> Bool[Tensor, " pair"]:
    """Return which pairs are edges, in this direction."""
    known = (edges[0] * tokens + edges[1]).sort().values
    if len(known) == 0:
        return torch.zeros(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    wanted = pairs[0] * tokens + pairs[1]
    place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return known[place] == wanted


class MaskedEdges(Objective):
    """Hide a share of a graph's edges and score them against pairs without one (S2GAE, GAE).

    The encoder sees the graph without the hidden edges (both directions of one go together when
    `undirected`). For each hidden edge a random pair of nodes of the same graph is drawn; loops
    are neither hidden nor, with `true_negatives`, drawn. Binary cross-entropy; every hidden edge
    and every pair drawn is one count, so that the loss is the mean of both parts, half the sum of
    their means that S2GAE's code has. The metric `auc` is the share of hidden edges that score
    above the pair drawn for them. S2GAE (Tan et al., 2023) is `layers` of all blocks, half of the
    edges hidden, and pairs drawn that may be edges or loops.

    Args:
        info: the streams.
        stream: whose edges are hidden.
        ratio: each edge's chance of being hidden.
        undirected: whether the two directions of an edge are one and are scored once.
        score: "dot" product of the ends, that "scaled" by the root of the width, its "mean" over
            channels, or an "mlp" over the product by channels.
        layers: blocks whose vectors are compared, each of one end with each of the other (S2GAE's
            cross-correlation, eq. 4); the encoder's result unless given. -1 is the last block.
        true_negatives: leave drawn pairs out that are edges or a node with itself; S2GAE keeps
            them.

    Raises:
        ValueError: a share out of range, or a stream without edges.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        ratio: float = 0.3,
        undirected: bool = True,
        score: Score = "mlp",
        layers: list[int] | None = None,
        true_negatives: bool = True,
    ):
        super().__init__()
        self.context = Context.of(info, "masking.edges", stream, [], None, None)
        Need(edges=True).check(info, stream)
        self.stream = stream
        self.ratio = check_ratio(ratio)
        self.undirected = undirected
        self.true_negatives = true_negatives
        if layers is not None and (not layers or len(set(layers)) < len(layers)):
            raise ValueError(f"layers must be one or more different blocks, got {layers}")
        self.taps = Taps(hidden=tuple(layers or ()))
        self.score = PairScore(info[stream].width, score, layers=max(len(layers or ()), 1))

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with edges."""
        return {self.stream: Need(edges=True)}

    def _draw(self, step: Step) -> tuple[Bool[Tensor, " edge"], Tensor, Tensor, Tensor]:
        """Return the mask of hidden edges, each once [2, pair], the pairs drawn, which of count."""
        layout = step.tokens(self.stream).layout
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        noise = self.context.noise(step, "edges", None)
        ends = edges.sort(dim=0).values if self.undirected else edges
        loop = edges[0] == edges[1]
        hidden = (edge_noise(noise, ends, "hide") < self.ratio) & ~loop
        held = ends[:, hidden.nonzero()[:, 0]]
        if self.undirected:  # the two directions are scored once
            held = held.unique(dim=1)
        segment = layout.segment[held[0]]
        start, length = layout.offsets[segment], layout.offsets.diff()[segment]
        drawn = torch.stack(
            [
                start + (edge_noise(noise, held, side) * length).long()
                for side in ("source", "target")
            ]
        )
        counted = torch.ones_like(drawn[0], dtype=torch.bool)
        if self.true_negatives:
            both = torch.cat([edges, edges.flip(0)], dim=1) if self.undirected else edges
            counted = (drawn[0] != drawn[1]) & ~joined(drawn, both, layout.tokens)
        return hidden, held, drawn, counted

    def forward(self, step: Step) -> Loss:
        """Return the loss over hidden edges and drawn pairs."""
        tokens = step.tokens(self.stream)
        hidden, held, drawn, counted = self._draw(step)
        remaining = tokens.with_rows(tokens.rows, without_edges(tokens.layout, hidden))
        encoded = step.encode_tokens(self.stream, remaining, taps=self.taps)
        every = torch.arange(tokens.layout.tokens, device=hidden.device)
        compared = [encoded.hidden[tap] for tap in self.taps.hidden] or [encoded.vectors]
        vectors = [at(replace(encoded, vectors=each), every) for each in compared]
        return pair_loss(self.score(vectors, held), self.score(vectors, drawn), counted)

    def count(self, step: Step) -> Tensor:
        """Return how many hidden edges and drawn pairs will be scored."""
        _, held, _, counted = self._draw(step)
        return held.shape[1] + counted.sum()
