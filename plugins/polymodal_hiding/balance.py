"""Hide tokens with and without a concept in equal parts (CausaLM, Feder et al., 2021)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal import Choice, Tokens, choose, hidden_counts

Amount = Literal["double", "ratio"]


def balanced_counts(
    concepts: Sequence[int], lengths: Sequence[int], *, amount: Amount, ratio: float = 0.15
) -> list[int]:
    """Return how many tokens of each segment to hide, none where none carries the concept.

    "double" is twice as many as carry it, or, where they are more than 0.4 of the segment, so much
    less that all are hidden at most (`double_num_adj` in the paper's code). "ratio" is that share
    of the segment, at least 1 and at most double (`mlm_prob`).

    Args:
        concepts: tokens of each segment that carry the concept.
        lengths: tokens of each segment that may be hidden.
        amount: the rule.
        ratio: of the second rule.
    """
    shares = hidden_counts(lengths, ratio, at_least=1)
    counts = []
    for concept, length, share in zip(concepts, lengths, shares, strict=True):
        if amount == "ratio":
            counts.append(min(2 * concept, share))
        elif concept <= 0.4 * length:
            counts.append(2 * concept)
        else:
            counts.append(math.floor(concept * (2 - concept / length) + 0.5))
    return counts


def choose_balanced(
    tokens: Tokens,
    concept: Bool[Tensor, " token"],
    allowed: Bool[Tensor, " token"],
    noise: Float[Tensor, " token"],
    *,
    amount: Amount,
    ratio: float = 0.15,
    cover: bool = False,
) -> tuple[Tokens, Choice, Int[Tensor, " token"]]:
    """Hide tokens that carry a concept and others in turn, each kind in random order.

    Waits for the device, since how many are hidden depends on how many carry the concept.

    Args:
        tokens: of the batch.
        concept: which carry it.
        allowed: which may be hidden.
        noise: that orders them.
        amount: how many, see `balanced_counts`.
        ratio: the same.
        cover: copy a segment until every token with the concept is hidden in one of its copies;
            each goes on where the one before stopped.

    Returns:
        The tokens, copies being further segments of their sample; what is hidden of them; and the
        row in the tokens given that each is a copy of.
    """
    layout = tokens.layout
    kind = torch.where(allowed, (~concept).long(), 2)  # 0 the concept, 1 another, 2 stays
    group = 3 * layout.segment + kind
    sizes = torch.bincount(group, minlength=3 * layout.segments)
    order = noise.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    rank = torch.empty_like(group)
    rank[order] = (
        torch.arange(len(rank), device=rank.device) - (sizes.cumsum(0) - sizes)[group[order]]
    )
    table = sizes.reshape(-1, 3).tolist()
    counts = balanced_counts(
        [with_it for with_it, _, _ in table],
        [with_it + others for with_it, others, _ in table],
        amount=amount,
        ratio=ratio,
    )
    # In turn, the concept first; where there are not enough of the others, more of the concept.
    parts = [
        (max(min((count + 1) // 2, with_it), count - others), count)
        for (with_it, others, _), count in zip(table, counts, strict=True)
    ]
    copies = [
        math.ceil(with_it / hidden) if cover and hidden else 1
        for (with_it, _, _), (hidden, _) in zip(table, parts, strict=True)
    ]
    segments = [s for s, number in enumerate(copies) for _ in range(number)]
    origin = torch.arange(layout.tokens, device=rank.device)
    if len(segments) > layout.segments:
        copied, origin = layout.selected(segments)
        owners = [layout.owners[s] for s in segments]
        owner = torch.tensor(owners, dtype=torch.int64, device=rank.device)
        layout = replace(copied, owner=owner, samples=layout.samples)
        tokens = tokens.with_rows(tokens.rows[origin], layout)
        kind, group, rank = kind[origin], group[origin], rank[origin]
    # Where each copy starts among the concept's tokens, and among the others.
    turns = [turn for number in copies for turn in range(number)]
    starts = [
        (turn * parts[s][0], turn * (parts[s][1] - parts[s][0]), 0)
        for s, turn in zip(segments, turns, strict=True)
    ]
    start = torch.tensor(starts, dtype=torch.int64, device=rank.device).reshape(-1, 3)
    place = (rank - start[layout.segment, kind]) % sizes[group]
    scores = torch.where(kind == 2, torch.inf, (2 * place + kind).to(noise.dtype))
    return tokens, choose(scores, layout, [counts[s] for s in segments]), origin
