"""What is added to attention's scores, and which pairs may meet at all."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal.packed.layout import Layout

Bias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`bias(head, query, key)` is added to the scores.

The three are int64 indices that broadcast against each other: the head, the packed row of the
query (of the layout) and that of the key (of the memory, or of the layout). It must work by
element, as FlexAttention's `score_mod`: `table[head, places[key] - places[query] + reach]`.
"""


@dataclass(frozen=True)
class Rule:
    """Which keys of its segment a query may see, by their places in it."""

    causal: bool = False
    window: int | None = None

    @property
    def everything(self) -> bool:
        """Whether every key may be seen."""
        return not self.causal and self.window is None

    def allows(self, query: Tensor, key: Tensor) -> Bool[Tensor, "*pair"]:
        """Say which of these pairs of places may meet."""
        if self.window is None:
            assert self.causal, "ask `everything` first"
            return key <= query
        near = query - key <= self.window
        return near & (key <= query if self.causal else key - query <= self.window)


@dataclass(frozen=True, eq=False)
class EdgePairs:
    """The distinct pairs that a layout's edges make, in the order of their queries.

    `pair` says which of them each edge of the layout became, so that values of repeated edges
    add up; -1 for an edge the rule forbids.
    """

    query: Int[Tensor, " pair"]
    key: Int[Tensor, " pair"]
    pair: Int[Tensor, " edge"]

    @classmethod
    def of(cls, layout: Layout, *, self_loops: bool, rule: Rule) -> "EdgePairs":
        """Return the pairs, made once a layout; waits for the device that once."""
        name = ("edge pairs", self_loops, rule.causal, rule.window)
        return layout.cached(name, lambda: cls._make(layout, self_loops, rule))

    @classmethod
    def _make(cls, layout: Layout, self_loops: bool, rule: Rule) -> "EdgePairs":
        tokens = layout.tokens
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        key, query = edges
        allowed = None
        if not rule.everything:
            allowed = rule.allows(layout.within[query], layout.within[key])
            key, query = key[allowed], query[allowed]
        code = query * tokens + key
        if self_loops:
            loop = torch.arange(tokens, device=layout.device)
            code = torch.cat([code, loop * tokens + loop])
        found, pair = torch.unique(code, return_inverse=True)
        pair = pair[: len(query)]
        if allowed is not None:
            everywhere = torch.full_like(allowed, -1, dtype=torch.int64)
            everywhere[allowed] = pair
            pair = everywhere
        size = max(tokens, 1)
        return cls(found // size, found % size, pair)

    def gather(self, values: Float[Tensor, "edge head"]) -> Float[Tensor, "pair head"]:
        """Add up values of edges to one of each pair; zero for a self-loop that is no edge."""
        total = values.new_zeros(len(self.query) + 1, values.shape[1])  # the last takes the barred
        return total.index_add(0, self.pair % len(total), values)[:-1]


@dataclass(frozen=True, eq=False)
class Guide:
    """Which tokens meet others along edges alone; all the rest meet as the rule says."""

    kinds: tuple[int, ...]  # whose tokens are guided
    self_loops: bool
    free: Bool[Tensor, " token"]  # of other kinds
    own: Bool[Tensor, " token"]  # sees itself although no edge says so
    blind: Bool[Tensor, " token"] | None  # sees nothing: scored against itself, then set to zero
    pairs: EdgePairs

    @classmethod
    def of(cls, layout: Layout, kinds: tuple[int, ...], *, self_loops: bool, rule: Rule) -> "Guide":
        """Return the guide, made once a layout; waits for the device that once."""
        name = ("guide", kinds, self_loops, rule)
        return layout.cached(name, lambda: cls._make(layout, kinds, self_loops, rule))

    @classmethod
    def _make(cls, layout: Layout, kinds: tuple[int, ...], self_loops: bool, rule: Rule) -> "Guide":
        pairs = EdgePairs.of(layout, self_loops=False, rule=rule)
        of_token = layout.kinds
        if of_token is None:
            of_token = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
        free = torch.isin(of_token, torch.tensor(kinds, device=layout.device), invert=True)
        if self_loops:
            return cls(kinds, self_loops, free, ~free, None, pairs)
        blind = (~free).index_fill(0, pairs.query, False)
        return cls(kinds, self_loops, free, blind, blind, pairs)

    def seen(self, rows: slice, rule: Rule) -> Bool[Tensor, "row row"]:
        """Return which of these rows, a whole segment, each of them sees, a blind one itself."""
        free, own = self.free[rows], self.own[rows]
        grid = free[:, None] & free
        if not rule.everything:
            place = torch.arange(len(free), device=free.device)
            grid &= rule.allows(place[:, None], place)
        first, end = torch.searchsorted(self.pairs.query, torch.tensor([rows.start, rows.stop],
                                        device=free.device)).tolist()  # fmt: skip
        query, key = self.pairs.query[first:end], self.pairs.key[first:end]
        grid[query - rows.start, key - rows.start] = True
        return grid | own.diag()

    @property
    def name(self) -> tuple[tuple[int, ...], bool]:
        """What tells it from other guides of the same layout and rule."""
        return self.kinds, self.self_loops
