"""Hide all edges of some tokens and tell whom they led to (GraphCodeBERT, Guo et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
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
    check_ratio,
    choose,
    hidden_counts,
    nearest,
)
from polymodal_masking.context import Context, at
from polymodal_masking.edges import edge_noise, without_edges
from polymodal_masking.pairs import PairScore, Score, draw_others, pair_loss


@dataclass(frozen=True, eq=False)
class _Drawn:
    hidden: Bool[Tensor, " edge"]
    true: Int[Tensor, "2 pair"]  # the token drawn, and its partner
    other: Int[Tensor, "2 pair"]  # the same token, and one that is no partner
    counted: Bool[Tensor, " pair"]  # whether there is such a one


class MaskedNeighbours(Objective):
    """Hide every edge between some tokens and those of one kind, and score who was joined.

    A share of the tokens of kind `of` is drawn from each segment, and all edges between them and
    tokens of kind `partner` go, in both directions. Each pair that was joined, whatever the
    direction, is scored once, and for it the drawn token with another of kind `partner` in the
    segment that it was not joined to: the numbers are equal, unless a token was joined to all.
    Binary cross-entropy of the dot product (sections 4.3 and 4.4; the paper adds pairs up, here
    each is one count). Edges between nodes of a data flow: `of: node, partner: node`; which
    subwords a node stands for: `of: node, partner: content`. The metrics are `accuracy`, and
    `auc`, the share of joined pairs that score above the pair drawn for them.

    Args:
        info: the streams.
        stream: whose edges are hidden.
        of: kind of the tokens drawn.
        partner: kind of the tokens they are joined to.
        ratio: share of the tokens of that kind to draw, to the nearest whole number, at least one.
        score: "dot" product of the two, that "scaled" by the root of the width, its "mean" over
            channels, or an "mlp" over the product by channels. The paper's is "dot", from the
            weights of CodeBERT; from nothing its loss starts far from guessing (280 at width 768).
        hide_input: vectors that an encoder averages along edges (`averaged`) are made without the
            hidden ones, too; otherwise they give them away.

    Raises:
        ValueError: a share out of range, a kind the stream's tokens don't have, or a stream
            without edges.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        of: str = "node",
        partner: str = "node",
        ratio: float = 0.2,
        score: Score = "dot",
        hide_input: bool = True,
    ):
        super().__init__()
        self.context = Context.of(info, "masking.neighbours", stream, [], None, None)
        Need(edges=True).check(info, stream)
        kinds = info[stream].spec.kinds
        for option, kind in (("of", of), ("partner", partner)):
            if kind not in kinds:
                raise ValueError(
                    f"{option}: the tokens of {stream!r} have no kind {kind!r}."
                    f"{nearest(kind, kinds)}"
                )
        self.stream = stream
        self.of, self.partner = kinds.index(of), kinds.index(partner)
        self.ratio = check_ratio(ratio)
        self.hide_input = hide_input
        self.score = PairScore(info[stream].width, score)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with edges."""
        return {self.stream: Need(edges=True)}

    def _draw(self, step: Step) -> _Drawn:
        layout = step.tokens(self.stream).layout
        kinds = layout.kinds
        if kinds is None:
            kinds = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        noise = self.context.noise(step, "tokens", None)
        chosen = self._choose(noise, layout, kinds == self.of)
        joins = chosen[edges] & (kinds[edges.flip(0)] == self.partner) & (edges[0] != edges[1])
        # Each edge from its drawn end; one with two drawn ends bars both from drawing the other.
        partners = torch.cat([edges[:, joins[0]], edges.flip(0)[:, joins[1]]], dim=1)
        both = chosen[partners].all(dim=0) & (self.of == self.partner)
        true = torch.where(both, partners.sort(dim=0).values, partners).unique(dim=1)
        other, counted = draw_others(
            edge_noise(noise, true, "other"),
            true[0],
            layout.segment,
            torch.where(kinds == self.partner, layout.segment, -1),
            partners,
        )
        return _Drawn(joins.any(dim=0), true, torch.stack([true[0], other]), counted)

    def _choose(self, noise: Tensor, layout: Layout, kind: Tensor) -> Bool[Tensor, " token"]:
        part, rows = layout.kept(kind, None)
        counts = hidden_counts(part.lengths, self.ratio, at_least=1)
        return torch.zeros_like(kind).index_fill(
            0, rows[choose(noise[rows], part, counts).hidden], True
        )

    def forward(self, step: Step) -> Loss:
        """Return the loss over joined and drawn pairs."""
        tokens = step.tokens(self.stream)
        drawn = self._draw(step)
        layout = without_edges(tokens.layout, drawn.hidden)
        if self.hide_input:
            encoded = step.encode_tokens(self.stream, tokens.with_rows(tokens.rows, layout))
        else:
            encoder = step.encoder(self.stream)
            encoded = encoder.contextualize(replace(encoder.embed(tokens), layout=layout))
        vectors = at(encoded, torch.arange(layout.tokens, device=layout.device))
        return pair_loss(
            self.score([vectors], drawn.true), self.score([vectors], drawn.other), drawn.counted
        )

    def count(self, step: Step) -> Tensor:
        """Return how many joined and drawn pairs will be scored."""
        drawn = self._draw(step)
        return drawn.true.shape[1] + drawn.counted.sum()
