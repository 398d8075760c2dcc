"""Attention by FlexAttention: CUDA in any precision, with biases; on CPU the forward pass only."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal.packed.attention.pairing import Pairing
from polymodal.packed.attention.scores import Bias, EdgePairs, Guide, Rule
from polymodal.packed.layout import Layout

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128  # rows of a tile: FlexAttention's own default


@cache
def _kernel() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def by_flex(
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
) -> Float[Tensor, "query head value"]:
    """Return attention of the rows used, all segments as one row of tiles."""
    if q.device.type == "cuda":
        kernel = _kernel()
    else:
        from torch.nn.attention.flex_attention import flex_attention as kernel
    out: Tensor = kernel(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        score_mod=_score_mod(pairing, layout, rule, bias, edge_bias),
        block_mask=_block_mask(pairing, layout, rule, guide),
        scale=scale,
    )
    return out[0].transpose(0, 1)


def _score_mod(
    pairing: Pairing,
    layout: Layout,
    rule: Rule,
    bias: Bias | None,
    edge_bias: Tensor | None,
) -> Callable[..., Tensor] | None:
    """What is added to a score, as FlexAttention wants it; None for nothing."""
    if bias is None and edge_bias is None:
        return None
    query_rows = _all_rows(pairing.query_rows, sum(pairing.queries), pairing.device)
    key_rows = _all_rows(pairing.key_rows, sum(pairing.keys), pairing.device)
    if edge_bias is None:
        assert bias is not None
        added = bias

        def biased(score: Tensor, b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + added(head, query_rows[query], key_rows[key]).to(score.dtype)

        return biased
    first, within, table = _edge_table(pairing, layout, rule, edge_bias)
    last = len(table) - 1

    def edged(score: Tensor, b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Pairs of two segments are masked, but looked up all the same: keep them in the table.
        cell = (first[query] + within[key]).clamp(max=last)
        score = score + table[cell, head].to(score.dtype)
        if bias is not None:
            score = score + bias(head, query_rows[query], key_rows[key]).to(score.dtype)
        return score

    return edged


def _edge_table(
    pairing: Pairing, layout: Layout, rule: Rule, edge_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A row of biases for each pair of each segment, and how to find a pair's row."""
    pairs = EdgePairs.of(layout, self_loops=False, rule=rule)
    first, within, cells = _cells(pairing, layout)
    table = edge_bias.new_zeros(cells, edge_bias.shape[1])
    table = table.index_add(0, first[pairs.query] + within[pairs.key], pairs.gather(edge_bias))
    return first, within, table


def _cells(pairing: Pairing, layout: Layout) -> tuple[Tensor, Tensor, int]:
    """Number the pairs of every segment: that of (query, key) is first[query] + within[key]."""

    def places() -> tuple[Tensor, Tensor, int]:
        # Self-attention leaves out only empty segments, so its rows are the layout's own.
        length = pairing.query_offsets.diff()
        start = (length * length).cumsum(0) - length * length
        within = layout.within
        first = start[pairing.query_segment] + within * length[pairing.query_segment]
        return first, within, sum(size * size for size in pairing.queries)

    return layout.cached("edge table", places)


def _all_rows(rows: Tensor | None, total: int, device: torch.device) -> Tensor:
    return torch.arange(total, device=device) if rows is None else rows


def _block_mask(pairing: Pairing, layout: Layout, rule: Rule, guide: Guide | None) -> "BlockMask":
    name = (rule, None if guide is None else guide.name)
    if name not in pairing.masks:
        pairing.masks[name] = _make_mask(pairing, layout, rule, guide)
    return pairing.masks[name]


def _make_mask(pairing: Pairing, layout: Layout, rule: Rule, guide: Guide | None) -> "BlockMask":
    """The tiles that hold a pair of one segment.

    Segments lie end to end, so the tiles of a row of tiles are one stretch and follow from the
    offsets: no token-by-token matrix is made, as `create_block_mask` would.
    """
    from torch.nn.attention.flex_attention import BlockMask

    queries, keys = sum(pairing.queries), sum(pairing.keys)
    rows, columns = -(-queries // BLOCK), -(-keys // BLOCK)
    device = pairing.device
    top = torch.arange(rows, device=device) * BLOCK
    bottom = (top + BLOCK - 1).clamp(max=queries - 1)
    left = pairing.key_offsets[pairing.query_segment[top]] // BLOCK
    right = (pairing.key_offsets[pairing.query_segment[bottom] + 1] - 1) // BLOCK
    counts = (right - left + 1).to(torch.int32)
    indices = (left[:, None] + torch.arange(columns, device=device)).clamp(max=columns - 1)

    query_segment, key_segment = pairing.query_segment, pairing.key_segment
    query_place = torch.arange(queries, device=device) - pairing.query_offsets[query_segment]
    key_place = torch.arange(keys, device=device) - pairing.key_offsets[key_segment]

    def seen(b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = query_segment[query] == key_segment[key]
        if rule.everything:
            return same
        return same & rule.allows(query_place[query], key_place[key])

    if guide is not None:
        seen = _guided(seen, pairing, layout, guide)
    return BlockMask.from_kv_blocks(
        counts[None, None],
        indices.to(torch.int32)[None, None].contiguous(),
        BLOCK_SIZE=BLOCK,
        mask_mod=seen,
        seq_lengths=(queries, keys),
    )


def _guided(
    seen: Callable[..., Tensor], pairing: Pairing, layout: Layout, guide: Guide
) -> Callable[..., Tensor]:
    """What a query may see where edges guide it: free pairs by `seen`, others by a table."""
    first, within, cells = _cells(pairing, layout)
    free, segment = guide.free, pairing.query_segment
    table = torch.zeros(cells, dtype=torch.bool, device=free.device)
    table[first[guide.pairs.query] + within[guide.pairs.key]] = True
    table[first + within] |= guide.own

    def guided(b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Pairs of two segments are looked up all the same: keep them in the table.
        along = table[(first[query] + within[key]).clamp(max=cells - 1)]
        along = along & (segment[query] == segment[key])
        return along | (free[query] & free[key] & seen(b, head, query, key))

    return guided
