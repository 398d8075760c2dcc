"""`attend`: attention within each segment of packed rows, by the back end that suits."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal.packed.attention.dense import in_rectangles
from polymodal.packed.attention.pairing import Pairing
from polymodal.packed.attention.scores import Bias, EdgePairs, Guide, Rule
from polymodal.packed.attention.sparse import along_edges, edge_weights
from polymodal.packed.layout import Layout

Backend = Literal["auto", "grouped", "padded", "varlen", "flex"]
Edges = Literal["ignore", "restrict", "guide"]


def attend(
    q: Float[Tensor, "query head dim"],
    k: Float[Tensor, "key head dim"],
    v: Float[Tensor, "key head value"],
    layout: Layout,
    *,
    memory: Layout | None = None,
    causal: bool = False,
    window: int | None = None,
    bias: Bias | None = None,
    edges: Edges = "ignore",
    guided: tuple[int, ...] = (),
    self_loops: bool = True,
    edge_bias: Float[Tensor, "edge head"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
) -> Float[Tensor, "query head value"]:
    """Return each query's attention over the keys of its segment; zeros where it has none to see.

    Args:
        q: queries, rows of `layout`.
        k: keys, rows of `memory`, or of `layout` without one.
        v: values, as keys.
        layout: where the queries' segments lie.
        memory: where the keys' segments lie, for cross-attention: segment s sees segment s.
        causal: a query sees no key that comes after it.
        window: a query sees no key more than so many places away.
        bias: added to the scores of every pair; see `Bias`.
        edges: "restrict" lets a query see only the sources of the edges that lead to it. Costs
            grow with the edges, not with the square of the lengths. "guide" does so where query
            or key is of a guided kind; tokens of other kinds see each other without edges
            (GraphCodeBERT, Guo et al., 2021, section 4.2).
        guided: with "guide", these kinds, by their numbers in `Layout.kinds`.
        self_loops: with "restrict" and "guide", whether a token sees itself although no edge says
            so.
        edge_bias: added to the score of each edge's pair, in any mode; repeated edges add up.
        scale: factor of the scores; 1 / sqrt(dim) unless given.
        dropout: share of attention weights to drop.
        backend: "grouped" and "padded" rectangles, "varlen" (CUDA, half precision, no bias, no
            guide, no dropout), "flex" (CUDA; on CPU forward only), or what suits. Edges that
            restrict have a way of their own and ignore it.

    Raises:
        ValueError: shapes that don't fit the layouts, or options that exclude each other.
    """
    rule = _checked(q, k, v, layout, memory, causal, window, edges, guided, edge_bias, backend)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    if edges == "restrict":
        return along_edges(
            q, k, v, layout,
            rule=rule, self_loops=self_loops, bias=bias, edge_bias=edge_bias,
            scale=scale, dropout=dropout,
        )  # fmt: skip
    pairing = Pairing.of(layout, memory)
    if not pairing.queries:
        # Zeros that still hang on everything, so that every parameter gets a gradient.
        anchor = q[:0].sum() + k[:0].sum() + v[:0].sum()
        if edge_bias is not None:
            anchor = anchor + edge_bias[:0].sum()
        if bias is not None:
            none = torch.zeros(0, dtype=torch.int64, device=q.device)
            anchor = anchor + bias(none, none, none).sum()
        return q.new_zeros(len(q), q.shape[1], v.shape[2]) + anchor.to(q.dtype)
    guide = None
    if edges == "guide":
        guide = Guide.of(layout, guided, self_loops=self_loops, rule=rule)
    no_edges: Tensor | None = None
    if edge_bias is not None and not len(edge_bias):
        edge_bias, no_edges = None, edge_bias
    if backend == "auto":
        plain = bias is None and edge_bias is None and guide is None
        backend = _suited(q, v, plain=plain, dropout=dropout)
    used_q = q if pairing.query_rows is None else q.index_select(0, pairing.query_rows)
    if pairing.key_rows is not None:
        k, v = k.index_select(0, pairing.key_rows), v.index_select(0, pairing.key_rows)
    if backend == "varlen":
        from polymodal.packed.attention.varlen import by_varlen

        out = by_varlen(used_q, k, v, pairing, rule=rule, scale=scale)
    elif backend == "flex":
        from polymodal.packed.attention.flex import by_flex

        out = by_flex(
            used_q, k, v, pairing, layout,
            rule=rule, guide=guide, bias=bias, edge_bias=edge_bias, scale=scale,
        )  # fmt: skip
    else:
        out = in_rectangles(
            used_q, k, v, pairing, layout,
            rule=rule, guide=guide, bias=bias, edge_bias=edge_bias, scale=scale, dropout=dropout,
            pad_all=backend == "padded",
        )  # fmt: skip
    if no_edges is not None:
        out = out + no_edges.sum().to(out.dtype)  # zero, for the gradient's sake
    if guide is not None and guide.blind is not None:  # empty segments apart, rows are the layout's
        out = out.masked_fill(guide.blind[:, None, None], 0)
    if pairing.query_rows is None:
        return out
    return out.new_zeros(len(q), *out.shape[1:]).index_copy(0, pairing.query_rows, out)


def attention_maps(
    q: Float[Tensor, "query head dim"],
    k: Float[Tensor, "key head dim"],
    layout: Layout,
    *,
    memory: Layout | None = None,
    causal: bool = False,
    window: int | None = None,
    bias: Bias | None = None,
    edges: Edges = "ignore",
    guided: tuple[int, ...] = (),
    self_loops: bool = True,
    edge_bias: Float[Tensor, "edge head"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "head _query _key"], ...]:
    """Return the weights that `attend` gives with the same options, a map a segment.

    A query with nothing to see has a row of zeros. Costs a loop over segments: for taps.

    Raises:
        ValueError: as `attend`.
    """
    rule = _checked(q, k, k, layout, memory, causal, window, edges, guided, edge_bias, "auto")
    scale = q.shape[2] ** -0.5 if scale is None else scale
    source = layout if memory is None else memory
    pairs = values = guide = None
    if edges == "guide":
        guide = Guide.of(layout, guided, self_loops=self_loops, rule=rule)
    if edges == "restrict":
        values, pairs = edge_weights(
            q, k, layout,
            rule=rule, self_loops=self_loops, bias=bias, edge_bias=edge_bias, scale=scale,
        )  # fmt: skip
    elif edge_bias is not None and layout.edges is not None:
        pairs = EdgePairs.of(layout, self_loops=False, rule=rule)
        values = pairs.gather(edge_bias)
    head = torch.arange(q.shape[1], device=q.device)
    place = torch.arange(max(layout.longest, source.longest), device=q.device)
    edge_ends = None
    if pairs is not None:  # pairs are sorted by query: each segment's are a stretch
        edge_ends = torch.searchsorted(pairs.query, layout.offsets).tolist()
    maps = []
    first_query = first_key = 0
    for segment, (queries, keys) in enumerate(zip(layout.lengths, source.lengths, strict=True)):
        grid = None
        if pairs is not None and values is not None and edge_ends is not None:
            mine = slice(edge_ends[segment], edge_ends[segment + 1])
            cell = (pairs.query[mine] - first_query) * keys + pairs.key[mine] - first_key
            grid = values.new_zeros(queries * keys, q.shape[1]).index_add(0, cell, values[mine])
            grid = grid.reshape(queries, keys, q.shape[1]).permute(2, 0, 1)
        if edges == "restrict":
            assert grid is not None
            maps.append(grid)
        else:
            scores = torch.einsum(
                "qhd,khd->hqk",
                q[first_query : first_query + queries],
                k[first_key : first_key + keys],
            )
            scores = scores.float() if scores.dtype.itemsize < 4 else scores
            scores = scores * scale if grid is None else scores * scale + grid
            if bias is not None:
                scores = scores + bias(
                    head[:, None, None],
                    (first_query + place[:queries])[:, None],
                    first_key + place[:keys],
                )
            rows = slice(first_query, first_query + queries)
            if guide is not None:
                scores = scores.masked_fill(~guide.seen(rows, rule), float("-inf"))
            elif not rule.everything:
                seen = rule.allows(place[:queries, None], place[:keys])
                scores = scores.masked_fill(~seen, float("-inf"))
            weights = scores.softmax(dim=-1) if keys else scores
            if guide is not None and guide.blind is not None:
                weights = weights.masked_fill(guide.blind[rows, None], 0)
            maps.append(weights)
        first_query, first_key = first_query + queries, first_key + keys
    return tuple(maps)


def _suited(q: Tensor, v: Tensor, *, plain: bool, dropout: float) -> Backend:
    """The back end for this device, precision and demand."""
    if q.device.type != "cuda" or dropout:
        return "grouped"
    half = q.dtype in (torch.float16, torch.bfloat16)
    fits = q.shape[2] % 8 == 0 and q.shape[2] <= 256 and q.shape[2] == v.shape[2]
    if half and fits and plain:
        return "varlen"
    return "grouped" if q.dtype == torch.float64 else "flex"


def _checked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    memory: Layout | None,
    causal: bool,
    window: int | None,
    edges: Edges,
    guided: tuple[int, ...],
    edge_bias: Tensor | None,
    backend: Backend,
) -> Rule:
    source = layout if memory is None else memory
    if len(q) != layout.tokens:
        raise ValueError(f"{len(q)} queries for a layout of {layout.tokens} tokens")
    if len(k) != source.tokens or len(v) != source.tokens:
        raise ValueError(f"{len(k)} keys and {len(v)} values for {source.tokens} tokens")
    if memory is not None:
        if memory.segments != layout.segments:
            raise ValueError(
                f"queries have {layout.segments} segments but memory {memory.segments}: "
                "segment s attends to segment s"
            )
        if causal or window is not None or edges != "ignore" or edge_bias is not None:
            raise ValueError("causal, window and edges are for self-attention, without memory")
    if window is not None and window < 0:
        raise ValueError(f"window must be 0 or more, got {window}")
    if edges not in get_args(Edges):
        raise ValueError(f"edges must be one of {', '.join(get_args(Edges))}, got {edges!r}")
    if (edges == "guide") != bool(guided):
        raise ValueError(f"guided kinds and edges 'guide' go together, got {guided} with {edges!r}")
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    if edges == "guide" and backend == "varlen":
        raise ValueError("backend 'varlen' can't be guided by edges: use 'flex' or 'auto'")
    if edge_bias is not None:
        count = 0 if layout.edges is None else layout.edges.shape[1]
        if edge_bias.shape != (count, q.shape[1]):
            raise ValueError(
                f"edge_bias must be {count} edges by {q.shape[1]} heads, "
                f"got {tuple(edge_bias.shape)}"
            )
    return Rule(causal, window)
