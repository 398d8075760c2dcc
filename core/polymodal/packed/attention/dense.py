"""Attention by `scaled_dot_product_attention` over rectangles of segments, on any device."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from polymodal.packed.attention.pairing import Bucket, Grid, Pairing
from polymodal.packed.attention.scores import Bias, EdgePairs, Guide, Rule
from polymodal.packed.layout import Layout


def in_rectangles(
    q: Float[Tensor, "query head dim"],
    k: Float[Tensor, "key head dim"],
    v: Float[Tensor, "key head value"],
    pairing: Pairing,
    layout: Layout,
    *,
    rule: Rule,
    guide: Guide | None,
    bias: Bias | None,
    edge_bias: Float[Tensor, "edge head"] | None,
    scale: float,
    dropout: float,
    pad_all: bool,
) -> Float[Tensor, "query head value"]:
    """Return attention of the rows used, segments of like lengths together.

    Equal lengths are one plain call on a view of the rows. With `pad_all` every segment goes into
    one padded rectangle.
    """
    heads, dim = q.shape[1:]
    buckets, order = pairing.buckets(heads * dim, pad_all=pad_all)
    query_grid, key_grid = pairing.grids(buckets, order)
    if query_grid is not None and key_grid is not None:
        q, k, v = query_grid.spread(q), key_grid.spread(k), key_grid.spread(v)
    terms = _Terms(
        pairing, layout, order, query_grid, key_grid, rule, guide, bias, edge_bias, heads
    )
    outputs = []
    query_cell = key_cell = 0
    for bucket in buckets:
        query_end = query_cell + bucket.count * bucket.queries
        key_end = key_cell + bucket.count * bucket.keys
        mask, causal = terms.of(bucket, query_cell, key_cell)
        out = scaled_dot_product_attention(
            _rectangle(q[query_cell:query_end], bucket.count),
            _rectangle(k[key_cell:key_end], bucket.count),
            _rectangle(v[key_cell:key_end], bucket.count),
            attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.to(q.dtype),
            dropout_p=dropout,
            is_causal=causal,
            scale=scale,
        )
        outputs.append(out.transpose(1, 2).reshape(-1, heads, v.shape[2]))
        query_cell, key_cell = query_end, key_end
    cells = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return cells if query_grid is None else query_grid.collect(cells)


def _rectangle(rows: Tensor, count: int) -> Tensor:
    return rows.unflatten(0, (count, -1)).transpose(1, 2)  # segment head row dim


class _Terms:
    """Masks and biases of each bucket's rectangles."""

    def __init__(
        self,
        pairing: Pairing,
        layout: Layout,
        order: list[int],
        query_grid: Grid | None,
        key_grid: Grid | None,
        rule: Rule,
        guide: Guide | None,
        bias: Bias | None,
        edge_bias: Tensor | None,
        heads: int,
    ):
        self.pairing = pairing
        self.layout = layout
        self.order = order
        self.query_grid = query_grid
        self.key_grid = key_grid
        self.rule = rule
        self.guide = guide
        self.bias = bias
        self.heads = heads
        self.values = None
        if edge_bias is not None:
            self.values = EdgePairs.of(layout, self_loops=False, rule=rule).gather(edge_bias)
        if edge_bias is not None or guide is not None:
            self.edge_place = layout.cached(
                ("edge places", tuple(order), rule), lambda: self._place_edges(layout)
            )

    def _place_edges(self, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """The slot, among all buckets' segments, and the places of every edge pair.

        Self-attention leaves out only empty segments, so their rows are the layout's own.
        """
        pairs = EdgePairs.of(layout, self_loops=False, rule=self.rule)
        slot = torch.empty(len(self.order), dtype=torch.int64)
        slot[torch.tensor(self.order)] = torch.arange(len(self.order))
        slot = slot.to(layout.device)
        segment = self.pairing.query_segment[pairs.query]
        return slot[segment], layout.within[pairs.query], layout.within[pairs.key]

    def of(self, bucket: Bucket, query_cell: int, key_cell: int) -> tuple[Tensor | None, bool]:
        """Return the mask or bias of a bucket, and whether plain causality is all it needs."""
        device = self.pairing.device
        biased = self.bias is not None or self.values is not None
        # Padding comes last, so causality alone keeps it out of sight.
        hides = bucket.mixed and not (self.rule.causal and self.pairing.same)
        if not biased and not hides and self.rule.window is None and self.guide is None:
            causal = self.rule.causal
            return None, causal
        if self.guide is None:
            mask = self._mask(bucket, hides=hides)
        else:  # the same in every layer, and costly
            name = ("guided mask", bucket, self.rule, self.guide.name)
            mask = self.layout.cached(name, lambda: self._guided(bucket, query_cell, key_cell))
        if not biased:
            return mask, False
        scores = self._edge_scores(bucket)
        if self.bias is not None:
            head = torch.arange(self.heads, device=device)[:, None, None]
            added = self.bias(
                head,
                self._rows(bucket, query_cell, queries=True)[:, None, :, None],
                self._rows(bucket, key_cell, queries=False)[:, None, None, :],
            )
            scores = added if scores is None else scores + added
        assert scores is not None
        if mask is not None:
            scores = torch.where(mask, scores, float("-inf"))
        return scores, False

    def _mask(self, bucket: Bucket, *, hides: bool) -> Bool[Tensor, "_segment 1 _query key"] | None:
        """What the rule lets a query see, without padding if that `hides`; None for all."""
        device = self.pairing.device
        query = torch.arange(bucket.queries, device=device)[:, None]
        key = torch.arange(bucket.keys, device=device)
        mask = None
        if not self.rule.everything:
            mask = self.rule.allows(query, key)[None, None]
        if hides:
            real = self._real(bucket)
            # A padding query outside the window of every real key would see nothing: it sees its
            # own place instead, and its output is dropped.
            mask = real if mask is None else (mask & real) | (query == key)
        return mask

    def _real(self, bucket: Bucket) -> Bool[Tensor, "segment 1 1 key"]:
        device = self.pairing.device
        index = self.order[bucket.first : bucket.first + bucket.count]
        lengths = torch.tensor([self.pairing.keys[s] for s in index], device=device)
        return (torch.arange(bucket.keys, device=device) < lengths[:, None])[:, None, None]

    def _guided(
        self, bucket: Bucket, query_cell: int, key_cell: int
    ) -> Bool[Tensor, "segment 1 query key"]:
        guide = self.guide
        assert guide is not None
        query = self._rows(bucket, query_cell, queries=True)[:, None, :, None]
        key = self._rows(bucket, key_cell, queries=False)[:, None, None, :]
        mask = guide.free[query] & guide.free[key]
        if not self.rule.everything:
            mask &= self.rule.allows(self.layout.within[query], self.layout.within[key])
        cell, cells = self._edge_cells(bucket)
        along = torch.zeros(cells + 1, dtype=torch.bool, device=mask.device)
        mask |= along.index_fill(0, cell, True)[:-1].view_as(mask)
        mask |= guide.own[query] & (query == key)
        # Padding sees its own place: a row that sees nothing would be no number.
        real = self._real(bucket)
        own = torch.eye(bucket.queries, dtype=torch.bool, device=mask.device)
        return (mask & real) | (own & ~real)

    def _edge_cells(self, bucket: Bucket) -> tuple[Int[Tensor, " pair"], int]:
        """The cell of each edge pair in a bucket's rectangles, and how many cells there are.

        Pairs of other buckets have the cell past the last.
        """
        slot, query, key = self.edge_place
        size = bucket.queries * bucket.keys
        inside = (slot >= bucket.first) & (slot < bucket.first + bucket.count)
        cell = (slot - bucket.first) * size + query * bucket.keys + key
        return torch.where(inside, cell, bucket.count * size), bucket.count * size

    def _edge_scores(self, bucket: Bucket) -> Tensor | None:
        if self.values is None:
            return None
        cell, cells = self._edge_cells(bucket)
        flat = self.values.new_zeros(cells + 1, self.heads)
        flat = flat.index_add(0, cell, self.values)[:-1]
        shape = (bucket.count, bucket.queries, bucket.keys, self.heads)
        return flat.reshape(shape).permute(0, 3, 1, 2).contiguous()

    def _rows(self, bucket: Bucket, cell: int, *, queries: bool) -> Int[Tensor, "segment row"]:
        grid = self.query_grid if queries else self.key_grid
        rows = self.pairing.query_rows if queries else self.pairing.key_rows
        length = bucket.queries if queries else bucket.keys
        index = torch.arange(cell, cell + bucket.count * length, device=self.pairing.device)
        if grid is not None:
            index = grid.source[index]
        if rows is not None:
            index = rows[index]
        return index.reshape(bucket.count, length)
