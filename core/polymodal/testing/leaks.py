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

A teacher (an encoder without trainable parameters that the objective holds) is held fixed with the
others. Its vector of token i stands for token i: where changing that vector alone changes the
gradient, the outputs found are those from which it is predicted, and they must not change with i.

What this can't see: content that reaches the prediction past the encoders, inside the objective
itself. And it takes a target that mixes several tokens (a teacher's vectors, normalised over the
sample) for a leak of each of them, so such an objective skips the check and tests its own masks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polymodal.interfaces.encoder import NO_TAPS, Encoder, Taps
from polymodal.interfaces.objective import Loss
from polymodal.model.model import PretrainingModel
from polymodal.packed.batch import Batch
from polymodal.packed.tokens import Encoded, Tokens
from polymodal.testing.modules import changed
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import OBJECTIVE, loss_of

SAMPLES = (7, 5, 6)
STEPS = 2  # each hides other tokens
CLOSE = 1e-5


@dataclass(frozen=True, eq=False)
class _Pass:
    """What went into an encoder's trunk and what came out."""

    stem: Encoded
    out: Encoded
    teacher: bool


def _teachers(model: PretrainingModel) -> list[Encoder]:
    """Return the encoders that the objective keeps to itself and does not train."""
    return [
        part
        for part in model.objective(OBJECTIVE).modules()
        if isinstance(part, Encoder) and not any(p.requires_grad for p in part.parameters())
    ]


@contextmanager
def _passes(model: PretrainingModel, replay: Sequence[Encoded] | None) -> Iterator[list[_Pass]]:
    """Note the passes of all encoders, in order; with `replay`, put that out instead."""
    noted: list[_Pass] = []
    students = [e for e in model.encoders.values() if isinstance(e, Encoder)]
    teachers = _teachers(model)

    def watch(encoder: Encoder, teacher: bool) -> None:
        original = encoder.contextualize

        def contextualize(encoded: Encoded, *, taps: Taps = NO_TAPS, **options: Any) -> Encoded:
            if replay is None:
                out = original(encoded, taps=taps, **options)
            elif len(noted) >= len(replay):
                raise _Different
            else:
                out = replay[len(noted)]
            noted.append(_Pass(encoded, out, teacher))
            return out

        object.__setattr__(encoder, "contextualize", contextualize)

    for encoder in students:
        watch(encoder, False)
    for encoder in teachers:
        watch(encoder, True)
    try:
        yield noted
    finally:
        for encoder in [*students, *teachers]:
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


def _rows(passes: Sequence[_Pass]) -> list[Tensor]:
    """Return what the students put out."""
    return [
        rows
        for each in passes
        if not each.teacher
        for rows in (each.out.vectors, each.out.pooled, *each.out.hidden.values())
    ]


@dataclass(frozen=True, eq=False)
class _Run:
    """A run with the encoders' outputs held fixed."""

    loss: Loss
    gradients: list[Tensor]  # of each of the students' outputs


def _held(model: PretrainingModel, batch: Batch, passes: Sequence[_Pass], number: int) -> _Run:
    held = [each if each.teacher else replace(each, out=_leaf(each.out)) for each in passes]
    with _passes(model, [each.out for each in held]):
        loss = loss_of(model, batch, number=number)
    inputs = _rows(held)
    gradients = [torch.zeros_like(rows) for rows in inputs]
    if loss.total.requires_grad:
        found = torch.autograd.grad(loss.total, inputs, allow_unused=True)
        gradients = [z if g is None else g for g, z in zip(found, gradients, strict=True)]
    return _Run(loss, gradients)


def _free(model: PretrainingModel, batch: Batch, number: int) -> list[_Pass]:
    with torch.no_grad(), _passes(model, None) as noted:
        loss_of(model, batch, number=number)
    return list(noted)


@dataclass(frozen=True, eq=False)
class _Trial:
    """One step of the model, and what its encoders put out."""

    model: PretrainingModel
    batch: Batch
    number: int
    before: list[_Pass]
    held: _Run

    @classmethod
    def of(cls, model: PretrainingModel, batch: Batch, number: int) -> "_Trial":
        before = _free(model, batch, number)
        return cls(model, batch, number, before, _held(model, batch, before, number))

    def sees(self, other: Batch, *, fewer: bool = False) -> bool:
        """Return whether what differs in `other` is a target that its own prediction depends on.

        With `fewer`, it is a target only if `other` has fewer of them.
        """
        try:
            moved = _held(self.model, other, self.before, self.number)
        except _Different:
            return False
        if fewer and float(moved.loss.count) >= float(self.held.loss.count):
            return False
        gradients = zip(self.held.gradients, moved.gradients, strict=True)
        predicted = any(bool(_differs(was, now).any()) for was, now in gradients if was.numel())
        if not predicted and not any(each.teacher for each in self.before):
            return False  # no target, as most tokens are none: no need to encode the other batch
        after = _free(self.model, other, self.number)
        if len(after) != len(self.before):
            return False
        if self._reached(moved, after):
            return True
        taught = _otherwise_taught(self.before, after)
        return taught is not None and self._reached(
            _held(self.model, self.batch, taught, self.number), after
        )

    def _reached(self, moved: _Run, after: Sequence[_Pass]) -> bool:
        """Return whether an output whose gradient moved is another after the change."""
        outputs = zip(_rows(self.before), _rows(after), strict=True)
        gradients = zip(self.held.gradients, moved.gradients, strict=True)
        for (first, second), (was, now) in zip(outputs, gradients, strict=True):
            if first.shape != second.shape or not first.numel():
                continue
            predicts = _differs(was, now)
            if bool((predicts & _differs(first, second)).any()):
                return True
        return False


def _differs(first: Tensor, second: Tensor) -> Tensor:
    """Return which rows differ."""
    first, second = first.detach(), second.detach()  # an inner gradient is taken with grad on
    bound = CLOSE * float(first.abs().max().clamp(min=1e-3))
    return (second - first).abs().amax(dim=1) > bound


def _otherwise_taught(before: Sequence[_Pass], after: Sequence[_Pass]) -> list[_Pass] | None:
    """Return the passes with other vectors where a teacher was given what changed, if any was."""
    found, any_taught = [], False
    for each, later in zip(before, after, strict=True):
        first, second = each.stem.vectors, later.stem.vectors
        if each.teacher and first.shape == second.shape and first.numel():
            given = _differs(first, second)
            any_taught |= bool(given.any())
            generator = torch.Generator().manual_seed(17)
            noise = torch.randn(each.out.vectors.shape, generator=generator)
            vectors = torch.where(given[:, None], noise, each.out.vectors)
            each = replace(each, out=replace(each.out, vectors=vectors))
        found.append(each)
    return found if any_taught else None


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


@check("objective", after=("computes", "shapes", "randomness", "gradients"))
def target_leak(subject: ObjectiveSubject) -> None:
    """What predicts a hidden token or edge does not change with it."""
    for number in range(STEPS):
        _check_step(subject, number)


def _check_step(subject: ObjectiveSubject, number: int) -> None:
    model, batch = subject.model(), subject.batch(lengths=SAMPLES, seed=number)
    trial = _Trial.of(model, batch, number)
    for stream in subject.streams:
        spec = model.specs[stream]
        tokens = batch.streams[stream]
        special = torch.tensor(sorted(set(spec.special.values())), dtype=torch.int64)
        for row in range(tokens.layout.tokens):
            if tokens.ids is not None and bool(torch.isin(tokens.ids[row], special)):
                continue
            if trial.sees(_with(batch, stream, changed(tokens, torch.tensor([row]), spec))):
                raise ConformanceError(
                    f"a token of {stream!r} is a target, and the vectors it is predicted from "
                    "change with it: hide it in all that the prediction reads"
                )
        if tokens.layout.edges is not None:
            for edge in range(tokens.layout.edges.shape[1]):
                first, second = tokens.layout.edges[:, edge].tolist()
                if first >= second:
                    continue
                if trial.sees(_with(batch, stream, _without_edge(tokens, edge)), fewer=True):
                    raise ConformanceError(
                        f"an edge of {stream!r} is a target, and the vectors it is predicted from "
                        "change with it: take it out of the graph the encoder sees, both ways"
                    )
