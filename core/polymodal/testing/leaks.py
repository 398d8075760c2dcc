"""Whether an objective's prediction sees the target it is scored against.

Nothing is asked of the objective: what is a target, and what its prediction looks at, is found
out by changing one thing in the batch at a time and watching the encoders' outputs E.

1. Run on the batch, and note E.
2. Change the content of token i, and run again with the *old* E put in the place of the encoders'
   outputs. Whatever the loss does now comes from the target side. If nothing changes, token i is
   no target. If the loss changes, the change of its gradient, dL'/dE - dL/dE, is not zero at
   exactly those outputs from which token i is predicted.
3. Change token i and run freely. If one of *those* outputs changes, the prediction of token i
   depends on token i: a leak.

So a masking objective that leaves its targets in the encoder's input is caught; one that hides
them is not; next-token prediction passes with a causal encoder, because the outputs that predict a
token lie before it, and fails where the mask is off by one. Edges are tried the same way: an
edge is a target if taking it away (both directions) lowers the count with E as it was.

What this can't see: content that reaches the prediction past the encoders, inside the objective
itself; and it takes a target that mixes several tokens (a teacher's contextual vectors) for a leak
of each of them, so such an objective skips the check and tests its own masks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.encoder import NO_TAPS, Encoder, Taps
from polymodal.model import PretrainingModel
from polymodal.objective import Loss
from polymodal.testing.modules import changed
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import loss_of
from polymodal.tokens import Encoded, Tokens

SAMPLES = (7, 5, 6)
STEPS = 2  # each hides other tokens
CLOSE = 1e-5


@contextmanager
def _outputs(model: PretrainingModel, replay: list[Encoded] | None) -> Iterator[list[Encoded]]:
    """Note what the encoders put out, in order; with `replay`, put that out instead."""
    noted: list[Encoded] = []
    encoders = [e for e in model.encoders.values() if isinstance(e, Encoder)]

    def watch(encoder: Encoder) -> None:
        original = encoder.contextualize

        def contextualize(encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
            if replay is None:
                noted.append(original(encoded, taps=taps))
            elif len(noted) >= len(replay):
                raise _Different
            else:
                noted.append(replay[len(noted)])
            return noted[-1]

        object.__setattr__(encoder, "contextualize", contextualize)

    for encoder in encoders:
        watch(encoder)
    try:
        yield noted
    finally:
        for encoder in encoders:
            object.__delattr__(encoder, "contextualize")


class _Different(Exception):
    """The changed batch makes other passes, so outputs can't be compared one to one."""


def _leaf(encoded: Encoded) -> Encoded:
    def leaf(rows: Tensor) -> Tensor:
        return rows.detach().clone().requires_grad_()

    return Encoded(
        encoded.layout, leaf(encoded.vectors), leaf(encoded.pooled), encoded.source,
        {number: leaf(rows) for number, rows in encoded.hidden.items()}, encoded.attention,
    )  # fmt: skip


def _rows(encoded: Encoded) -> list[Tensor]:
    return [encoded.vectors, encoded.pooled, *encoded.hidden.values()]


@dataclass(frozen=True, eq=False)
class _Run:
    """A run with the encoders' outputs held fixed."""

    loss: Loss
    gradients: list[Tensor]


def _held(model: PretrainingModel, batch: Batch, outputs: list[Encoded], number: int) -> _Run:
    leaves = [_leaf(each) for each in outputs]
    with _outputs(model, leaves):
        loss = loss_of(model, batch, number=number)
    inputs = [rows for each in leaves for rows in _rows(each)]
    gradients = [torch.zeros_like(rows) for rows in inputs]
    if loss.total.requires_grad:
        found = torch.autograd.grad(loss.total, inputs, allow_unused=True)
        gradients = [z if g is None else g for g, z in zip(found, gradients, strict=True)]
    return _Run(loss, gradients)


def _free(model: PretrainingModel, batch: Batch, number: int) -> list[Encoded]:
    with torch.no_grad(), _outputs(model, None) as noted:
        loss_of(model, batch, number=number)
    return list(noted)


def _seen(
    model: PretrainingModel, batch: Batch, other: Batch, before: list[Encoded], held: _Run,
    *, number: int, fewer: bool,
) -> bool:  # fmt: skip
    """Return whether what differs in `other` is a target, and its own prediction depends on it."""
    try:
        moved = _held(model, other, before, number)
    except _Different:
        return False
    if fewer and float(moved.loss.count) >= float(held.loss.count):
        return False
    after = _free(model, other, number)
    if len(after) != len(before):
        return False
    old = [rows for each in before for rows in _rows(each)]
    new = [rows for each in after for rows in _rows(each)]
    for first, second, was, now in zip(old, new, held.gradients, moved.gradients, strict=True):
        if first.shape != second.shape or not first.numel():
            continue
        pull = (now - was).abs().amax(dim=1)
        shift = (second - first).abs().amax(dim=1)
        predicts = pull > CLOSE * float(was.abs().max().clamp(min=1e-3))
        if bool((predicts & (shift > CLOSE * float(first.abs().max().clamp(min=1e-3)))).any()):
            return True
    return False


def _with(batch: Batch, stream: str, tokens: Tokens) -> Batch:
    return replace(batch, streams={**batch.streams, stream: tokens})


def _without_edge(tokens: Tokens, edge: int) -> Tokens:
    """Take an edge away, both directions of it."""
    layout = tokens.layout
    assert layout.edges is not None
    ends = layout.edges.sort(dim=0).values
    keep = (ends != ends[:, edge : edge + 1]).any(dim=0)
    kinds, values = layout.edge_kinds, layout.edge_values
    return tokens.with_rows(
        tokens.rows,
        replace(
            layout,
            edges=layout.edges[:, keep],
            edge_kinds=None if kinds is None else kinds[keep],
            edge_values=None if values is None else values[keep],
        ),
    )


@check("objective", after=("computes", "shapes", "randomness"))
def target_leak(subject: ObjectiveSubject) -> None:
    """What predicts a hidden token or edge does not change with it."""
    for number in range(STEPS):
        _check_step(subject, number)


def _check_step(subject: ObjectiveSubject, number: int) -> None:
    model, batch = subject.model(), subject.batch(lengths=SAMPLES, seed=number)
    before = _free(model, batch, number)
    held = _held(model, batch, before, number)
    for stream in subject.streams:
        spec = model.specs[stream]
        tokens = batch.streams[stream]
        special = torch.tensor(sorted(set(spec.special.values())), dtype=torch.int64)
        for row in range(tokens.layout.tokens):
            if tokens.ids is not None and bool(torch.isin(tokens.ids[row], special)):
                continue
            other = _with(batch, stream, changed(tokens, torch.tensor([row]), spec))
            if _seen(model, batch, other, before, held, number=number, fewer=False):
                raise ConformanceError(
                    f"a token of {stream!r} is a target, and the vectors it is predicted from "
                    "change with it: hide it in all that the prediction reads"
                )
        if tokens.layout.edges is not None:
            for edge in range(tokens.layout.edges.shape[1]):
                first, second = tokens.layout.edges[:, edge].tolist()
                if first >= second:
                    continue
                other = _with(batch, stream, _without_edge(tokens, edge))
                if _seen(model, batch, other, before, held, number=number, fewer=True):
                    raise ConformanceError(
                        f"an edge of {stream!r} is a target, and the vectors it is predicted from "
                        "change with it: take it out of the graph the encoder sees, both ways"
                    )
