"""Attention along edges only: scores, softmax and sums by edge, linear in their number.

Rows that many edges share are taken by `index_select`: on CPU the gradient of brackets is added up
in the rows' own precision, and 1,000 ones come to 256 in bfloat16.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal.packed.attention.scores import Bias, EdgePairs, Rule
from polymodal.packed.layout import Layout


def along_edges(
    q: Float[Tensor, "token head dim"],
    k: Float[Tensor, "token head dim"],
    v: Float[Tensor, "token head value"],
    layout: Layout,
    *,
    rule: Rule,
    self_loops: bool,
    bias: Bias | None,
    edge_bias: Float[Tensor, "edge head"] | None,
    scale: float,
    dropout: float,
) -> Float[Tensor, "token head value"]:
    """Return what each token gathers from its edges' sources (and itself); zero for none."""
    weights, pairs = edge_weights(
        q, k, layout, rule=rule, self_loops=self_loops, bias=bias, edge_bias=edge_bias, scale=scale
    )
    weights = torch.nn.functional.dropout(weights, dropout)
    gathered = weights[..., None].to(v.dtype) * v.index_select(0, pairs.key)
    return v.new_zeros(len(q), *v.shape[1:]).index_add(0, pairs.query, gathered)


def edge_weights(
    q: Float[Tensor, "token head dim"],
    k: Float[Tensor, "token head dim"],
    layout: Layout,
    *,
    rule: Rule,
    self_loops: bool,
    bias: Bias | None,
    edge_bias: Float[Tensor, "edge head"] | None,
    scale: float,
) -> tuple[Float[Tensor, "pair head"], EdgePairs]:
    """Return the softmax of each query's scores over the pairs it is in."""
    pairs = EdgePairs.of(layout, self_loops=self_loops, rule=rule)
    scores = (q.index_select(0, pairs.query) * k.index_select(0, pairs.key)).sum(dim=-1) * scale
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if edge_bias is not None:
        scores = scores + pairs.gather(edge_bias)
    if bias is not None:
        head = torch.arange(q.shape[1], device=q.device)
        scores = scores + bias(head, pairs.query[:, None], pairs.key[:, None])
    index = pairs.query[:, None].expand_as(scores)
    highest = scores.detach().new_zeros(len(q), q.shape[1])
    highest = highest.scatter_reduce(0, index, scores.detach(), "amax", include_self=False)
    risen = (scores - highest[pairs.query]).exp()
    total = risen.new_zeros(len(q), q.shape[1]).index_add(0, pairs.query, risen)
    return risen / total.index_select(0, pairs.query), pairs
