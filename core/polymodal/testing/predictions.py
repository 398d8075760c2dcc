"""Checks of parts that say what is predicted, that predict it, and that pool vectors."""

from typing import Any

import torch
from torch import Tensor

from polymodal.packed.batch import Batch
from polymodal.testing.modules import (
    require_finite_gradients,
    require_gradients,
    rows_of,
)
from polymodal.testing.parts import (
    PartSubject,
    corrupted,
    encoded_of,
    require_saved,
    samples_of,
    subsets,
)
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import WIDTH

CLOSE = 1e-5


def _guess(subject: PartSubject, batch: Batch, part: Any, number: int = 0) -> tuple[Any, ...]:
    """Return predictions of a batch's scored rows, made by sample, and what they are of."""
    hidden, among = subject.hidden(batch, number=number)
    rows, counted = part.scored(hidden, among)
    told = encoded_of(hidden.tokens).vectors
    mix = torch.randn(WIDTH, part.outputs, generator=torch.Generator().manual_seed(3)).double()
    predicted = (told @ mix)[rows].float().requires_grad_()
    return predicted, corrupted(hidden, among), rows, counted


def _near(found: Tensor, wanted: Tensor) -> bool:
    found, wanted = found.detach(), wanted.detach()
    return bool((found - wanted).abs() <= CLOSE * max(float(wanted.abs()), 1.0))


@check("target")
def costs(subject: PartSubject) -> None:
    """It says how many outputs it wants, and the loss of a guess is one finite number with one."""
    part = subject.built()
    if not isinstance(getattr(part, "outputs", None), int) or part.outputs < 1:
        raise ConformanceError("`bind` must set `outputs`, 1 or more")
    if part.classes and part.outputs != subject.info.spec.vocabulary:
        raise ConformanceError("`classes` says outputs are the stream's ids, but they are not")
    guess = _guess(subject, subject.batch(), part)
    total, metrics = part.loss(*guess)
    if total.dim() or not bool(total.isfinite()) or float(total.detach()) <= 0:
        raise ConformanceError(f"the loss of a guess must be a finite number above 0, got {total}")
    if not total.requires_grad:
        raise ConformanceError("the loss has no gradient")
    for name, (value, _) in metrics.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise ConformanceError(f"the metric {name!r} keeps the graph alive: detach it")


@check("target", after=("costs",))
def costs_of_rows(subject: PartSubject) -> None:
    """Rows that count get a gradient, and rows that do not change nothing."""
    part = subject.built()
    predicted, seen, rows, counted = _guess(subject, subject.batch(), part)
    total, _ = part.loss(predicted, seen, rows, counted)
    (gradient,) = torch.autograd.grad(total, predicted)
    reached = gradient.abs().sum(dim=1) > 0
    wanted = torch.ones_like(reached) if counted is None else counted
    if bool((reached & ~wanted).any()):
        raise ConformanceError("a row that does not count gets a gradient")
    if bool((wanted & ~reached).any()):
        raise ConformanceError("a row that counts gets no gradient")
    none = torch.zeros(len(rows), dtype=torch.bool)
    if float(part.loss(predicted, seen, rows, none)[0].detach()) != 0:
        raise ConformanceError("where no row counts the loss is not 0")


@check("target", after=("costs",))
def costs_add_up(subject: PartSubject) -> None:
    """The loss of a batch is the sum of its samples' losses; without rows it is 0."""
    batch, part = subject.batch(), subject.built()
    whole = part.loss(*_guess(subject, batch, part))[0]
    whole = part.loss(*_guess(subject, batch, part))[0]  # what the first batch sets is set
    parts = [
        part.loss(*_guess(subject, samples_of(batch, [s]), part))[0] for s in range(batch.samples)
    ]
    if not _near(torch.stack(parts).sum(), whole):
        raise ConformanceError(
            f"the losses of the samples are {float(torch.stack(parts).sum().detach()):g} together, "
            f"that of the batch {float(whole.detach()):g}: return a sum over rows"
        )
    for lengths in ([], [0, 0]):
        total, _ = part.loss(*_guess(subject, subject.batch(lengths), part))
        if float(total.detach()) != 0:
            raise ConformanceError(f"without tokens the loss is {float(total.detach()):g}, not 0")


@check("target", after=("costs",))
def target_saved(subject: PartSubject) -> None:
    """It is the same after saving, and can be pickled."""
    part, batch = subject.built(), subject.batch()
    part.loss(*_guess(subject, batch, part))
    other = subject.batch(seed=1)
    require_saved(subject, lambda p: p.loss(*_guess(subject, other, p))[0].detach(), part)


def _vectors(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


@check("head")
def predicts(subject: PartSubject) -> None:
    """It gives as many finite outputs a row as were asked for, of no rows too."""
    part = subject.built()
    outputs = subject.info.spec.vocabulary or 5
    for count in (7, 1, 0):
        found = part.predict(_vectors(count), subject.unembed)
        if tuple(found.shape) != (count, outputs):
            raise ConformanceError(
                f"of {count} rows it must give {[count, outputs]} numbers, got {list(found.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise ConformanceError("it gives NaN or infinity")


@check("head", after=("predicts",))
def rows_apart(subject: PartSubject) -> None:
    """What it makes of a row does not depend on other rows."""
    part, vectors = subject.built(), _vectors(6)
    whole = part.predict(vectors, subject.unembed)
    alone = torch.cat([part.predict(row[None], subject.unembed) for row in vectors])
    if not torch.allclose(whole, alone, atol=1e-5):
        raise ConformanceError(
            "the outputs of a row change with the rows beside it: rows of several samples come "
            "together, so work on each by itself"
        )


@check("head", after=("predicts",))
def head_learns(subject: PartSubject) -> None:
    """Every weight gets a gradient, zero where there are no rows."""
    part = subject.built()
    if not list(part.parameters()):
        return

    def one(seed: int) -> Tensor:
        found: Tensor = part.predict(_vectors(6, seed), subject.unembed)
        mix = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
        return (found * mix).sum()

    require_gradients(part, [lambda: one(0), lambda: one(1)])
    none = part.predict(_vectors(0), subject.unembed).sum()
    require_finite_gradients(part, none, "without rows")


@check("head", after=("predicts",))
def head_saved(subject: PartSubject) -> None:
    """It is the same after saving, and can be pickled."""
    require_saved(subject, lambda p: p.predict(_vectors(4), subject.unembed).detach(),
                  subject.built())  # fmt: skip


@check("pooler")
def pools(subject: PartSubject) -> None:
    """It gives one finite vector a sample, zero for one without tokens."""
    part = subject.built().double()
    for lengths in ([3, 0, 1, 5], [0, 0], []):
        tokens = subject.batch(lengths).streams[subject.stream]
        found = part.pool(encoded_of(tokens))
        if tuple(found.shape) != (len(lengths), WIDTH):
            raise ConformanceError(
                f"of {len(lengths)} samples it must give {[len(lengths), WIDTH]} numbers, got "
                f"{list(found.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise ConformanceError(f"it gives NaN or infinity for samples of {lengths} tokens")
        empty = torch.tensor([length == 0 for length in lengths], dtype=torch.bool)
        if bool(found[empty].any()):
            raise ConformanceError("the vector of a sample without tokens must be zero")


@check("pooler", after=("pools",))
def samples_apart(subject: PartSubject) -> None:
    """A sample's vector depends on its own tokens alone, and on some of them."""
    part, batch = subject.built().double(), subject.batch()
    tokens = batch.streams[subject.stream]
    whole = part.pool(encoded_of(tokens))
    for samples in subsets(batch):
        found = part.pool(encoded_of(tokens.take(samples)))
        if not torch.allclose(found, whole[samples]):
            raise ConformanceError("a sample's vector changes with the samples beside it")
    encoded = encoded_of(tokens)
    encoded.vectors.requires_grad_()
    (gradient,) = torch.autograd.grad(part.pool(encoded)[0].square().sum(), encoded.vectors)
    if not bool(gradient[rows_of(tokens, 0)].any()):
        raise ConformanceError("a sample's vector does not depend on its tokens")


@check("pooler", after=("pools",))
def pooler_learns(subject: PartSubject) -> None:
    """Every weight gets a gradient, zero where there are no tokens."""
    part = subject.built().double()
    if not list(part.parameters()):
        return
    tokens = subject.batch().streams[subject.stream]
    require_gradients(part, [lambda: part.pool(encoded_of(tokens)).square().sum()])
    none = subject.batch([0, 0]).streams[subject.stream]
    require_finite_gradients(part, part.pool(encoded_of(none)).sum(), "without tokens")


@check("pooler", after=("pools",))
def pooler_saved(subject: PartSubject) -> None:
    """It is the same after saving, and can be pickled."""
    tokens = subject.batch().streams[subject.stream]
    require_saved(subject, lambda p: p.double().pool(encoded_of(tokens)).detach(), subject.built())
