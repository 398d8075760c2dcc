"""Edges from vectors: say of two tokens whether an edge joins them; a probe of structure."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    FromRun,
    Layout,
    Loss,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
    nearest,
)
from polymodal_masking import at, draw_others, edge_noise, pair_loss


class Edges(Objective):
    """Tell pairs of tokens of one kind that an edge joins from pairs that none does.

    For each joined pair (either direction, once) another token of the kind, of the same group and
    segment, is drawn that is not joined to the edge's target; where there is none, the pair counts
    for nothing either, so that guessing is right half the time. A linear layer reads both vectors,
    their product and their distance by channels. Nothing is hidden from the encoder unless
    `unseen`: freeze it, and this is a probe.

    Args:
        info: the streams.
        stream: whose edges are meant.
        kind: of the tokens that are paired.
        group: channel by which tokens are told apart; pairs are of equal numbers, of one variable
            say.
        unseen: the encoder sees neither tokens of that kind nor their edges, and the vector of
            one is the mean of the tokens of other kinds from which edges lead to it.

    Raises:
        ValueError: a kind the stream's tokens don't have, or a stream without edges or channel.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        kind: str = "content",
        group: str | None = None,
        unseen: bool = False,
    ):
        super().__init__()
        self.need = Need(edges=True, channels=() if group is None else (group,))
        self.need.check(info, stream)
        kinds = info[stream].spec.kinds
        if kind not in kinds:
            raise ValueError(
                f"kind: the tokens of {stream!r} have no kind {kind!r}.{nearest(kind, kinds)}"
            )
        self.stream = stream
        self.kind = kinds.index(kind)
        self.group = group
        self.unseen = unseen
        self.head = nn.Linear(4 * info[stream].width, 1)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with edges and the channel."""
        return {self.stream: self.need}

    def _pairs(
        self, step: Step
    ) -> tuple[Int[Tensor, "2 pair"], Int[Tensor, "2 pair"], Int[Tensor, "2 link"]]:
        """Return joined pairs, a pair drawn for each, and the edges from tokens of other kinds."""
        layout = step.tokens(self.stream).layout
        ours = self._ours(layout)
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        links = edges[:, ours[edges[1]] & ~ours[edges[0]]]
        able = ours
        if self.unseen:
            able = ours & torch.zeros_like(ours).index_fill(0, links[1], True)
        group = layout.segment
        if self.group is not None and self.group in layout.channels:
            channel = layout.channels[self.group] + 1
            group = layout.segment * (channel.amax() + 1 if len(channel) else 1) + channel
        joined = able[edges].all(dim=0) & (group[edges[0]] == group[edges[1]])
        joined &= edges[0] != edges[1]
        partners = torch.cat([edges, edges.flip(0)], dim=1)[:, joined.repeat(2)]
        pairs = edges.flip(0)[:, joined]  # target, source
        # Of the two directions of an edge the one towards the later token stands for both.
        later = (pairs[0] > pairs[1]) | ~_contains(pairs, pairs.flip(0), layout.tokens)
        pairs = pairs[:, later].unique(dim=1)
        noise = edge_noise(step.uniform(self.stream, step.tokens(self.stream)), pairs, "other")
        other, found = draw_others(noise, pairs[0], group, torch.where(able, group, -1), partners)
        return pairs[:, found], torch.stack([pairs[0], other])[:, found], links

    def _ours(self, layout: Layout) -> Tensor:
        if layout.kinds is None:
            return torch.full((layout.tokens,), self.kind == 0, device=layout.device)
        return layout.kinds == self.kind

    def _vectors(
        self, step: Step, tokens: Tokens, links: Int[Tensor, "2 link"]
    ) -> Float[Tensor, "token width"]:
        layout = tokens.layout
        if not self.unseen:
            every = torch.arange(layout.tokens, device=layout.device)
            return at(step.encode(self.stream), every)
        seen = ~self._ours(layout)
        rows = seen.nonzero()[:, 0]
        vectors = at(
            step.encode_tokens(self.stream, tokens.keep(seen)),
            torch.arange(len(rows), device=rows.device),
        )
        place = torch.zeros_like(layout.segment).index_copy(
            0, rows, torch.arange(len(rows), device=rows.device)
        )
        share = 1 / torch.bincount(links[1], minlength=layout.tokens)[links[1]]
        read = vectors.index_select(0, place[links[0]]) * share[:, None].to(vectors.dtype)
        return vectors.new_zeros(layout.tokens, vectors.shape[1]).index_add(0, links[1], read)

    def _score(self, vectors: Tensor, pairs: Int[Tensor, "2 pair"]) -> Float[Tensor, " pair"]:
        one, other = vectors.index_select(0, pairs[0]), vectors.index_select(0, pairs[1])
        both = torch.cat([one, other, one * other, (one - other).abs()], dim=1)
        scores: Tensor = self.head(both)[:, 0]
        return scores.float()

    def forward(self, step: Step) -> Loss:
        """Return the loss over joined and drawn pairs."""
        joined, drawn, links = self._pairs(step)
        vectors = self._vectors(step, step.tokens(self.stream), links)
        counted = torch.ones_like(drawn[0], dtype=torch.bool)
        return pair_loss(self._score(vectors, joined), self._score(vectors, drawn), counted)

    def count(self, step: Step) -> int:
        """Return how many pairs will be scored."""
        return 2 * self._pairs(step)[0].shape[1]


def _contains(pairs: Tensor, others: Tensor, tokens: int) -> Tensor:
    """Return which of the others are among the pairs."""
    return torch.isin(others[0] * tokens + others[1], pairs[0] * tokens + pairs[1])
