"""Checks of parts that hide tokens, and of those that put others in their place."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from polymodal.interfaces.parts import Hidden
from polymodal.packed.batch import Batch
from polymodal.testing.modules import changed, require_gradients
from polymodal.testing.parts import (
    PartSubject,
    copied,
    require_saved,
    require_untouched,
    rows_by_sample,
    samples_of,
    subsets,
)
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import LENGTHS

EMPTY: tuple[list[int], ...] = ([], [0], [0, 3, 0], [1], [1, 0, 1])


@check("hiding")
def chooses(subject: PartSubject) -> None:
    """It takes a stream, and what it hides and leaves are a segment's tokens, in order, once."""
    part = subject.built()
    among = subject.candidates(subject.batch())
    before = copied(among.tokens)
    found = part.choose(among)
    require_untouched(before, among.tokens, "`choose`")
    _require_whole(found)
    if not len(found.rows):
        raise ConformanceError(f"it hides none of {among.tokens.layout.tokens} tokens")


def _require_whole(found: Hidden) -> None:
    layout, choice = found.tokens.layout, found.choice
    both = torch.cat([choice.hidden, choice.visible]).sort().values
    if both.tolist() != list(range(layout.tokens)):
        raise ConformanceError("hidden and visible rows are not all rows, each once")
    for name, rows, told in (("hidden", choice.hidden, choice.hidden_lengths),
                             ("visible", choice.visible, choice.visible_lengths)):  # fmt: skip
        if rows.tolist() != sorted(rows.tolist()):
            raise ConformanceError(f"the {name} rows are not ascending")
        lengths = torch.bincount(layout.segment[rows], minlength=layout.segments).tolist()
        if lengths != list(told):
            raise ConformanceError(
                f"{name}_lengths says {list(told)}, but the rows of the segments are {lengths}"
            )
    if found.counted is not None and found.counted.shape != choice.hidden.shape:
        raise ConformanceError("`counted` must have one entry for each hidden row")


@check("hiding", after=("chooses",))
def allowed(subject: PartSubject) -> None:
    """What counts may be hidden: no special ids and kinds."""
    among = subject.candidates(subject.batch())
    found = subject.built().choose(among)
    if among.allowed is None:
        return
    may = among.allowed if found.origin is None else among.allowed[found.origin]
    rows = found.rows if found.counted is None else found.rows[found.counted]
    if not bool(may[rows].all()):
        raise ConformanceError(
            "it hides tokens that may not be hidden, and counts them: leave them out by "
            "`among.allowed`, or use `among.lowest`"
        )


@check("hiding", after=("chooses",))
def hiding_few(subject: PartSubject) -> None:
    """No samples, no tokens and single tokens are no trouble."""
    for lengths in EMPTY:
        _require_whole(subject.built().choose(subject.candidates(subject.batch(lengths))))


@check("hiding", after=("chooses",))
def hiding_alike(subject: PartSubject) -> None:
    """The same sample hides the same tokens in any batch, and in each pass of a step."""
    batch = subject.batch()
    whole = rows_by_sample(subject.built().choose(subject.candidates(batch)), batch.samples)
    torch.rand(3)  # global noise moves on
    again = rows_by_sample(subject.built().choose(subject.candidates(batch)), batch.samples)
    if again != whole:
        raise ConformanceError("the same step hides other tokens: draw from `among.noise`")
    for samples in subsets(batch):
        among = subject.candidates(samples_of(batch, samples))
        part = rows_by_sample(subject.built().choose(among), len(samples))
        if part != [whole[s] for s in samples]:
            raise ConformanceError(
                "a sample hides other tokens beside other samples: draw from `among.noise`, and "
                "rank within segments"
            )


@check("hiding", after=("chooses",))
def hiding_saved(subject: PartSubject) -> None:
    """It is the same after saving, and can be pickled."""
    require_saved(subject, lambda part: part.choose(subject.candidates(subject.batch())).rows,
                  subject.built())  # fmt: skip


@check("replacing")
def replaces(subject: PartSubject) -> None:
    """It changes rows that are hidden and count, and no others, nor what it was given."""
    part = subject.built()
    for number in range(4):
        hidden, among = subject.hidden(subject.batch(seed=number), number=number)
        before = copied(among.tokens)
        tokens = part.replace(hidden, among)
        require_untouched(before, among.tokens, "`replace`")
        if tokens.layout.lengths != among.tokens.layout.lengths:
            raise ConformanceError("it must return as many tokens as there were")
        may = torch.zeros(tokens.layout.tokens, dtype=torch.bool)
        may[hidden.rows if hidden.counted is None else hidden.rows[hidden.counted]] = True
        if not torch.equal(tokens.rows[~may], before.rows[~may]):
            raise ConformanceError("it changes rows that are not hidden, or do not count")


@check("replacing", after=("replaces",))
def replacing_few(subject: PartSubject) -> None:
    """No samples, no tokens and single tokens are no trouble."""
    for lengths in EMPTY:
        part = subject.built()
        hidden, among = subject.hidden(subject.batch(lengths))
        if part.replace(hidden, among).layout.tokens != sum(lengths):
            raise ConformanceError(f"of {sum(lengths)} tokens it returns another number")


@check("replacing", after=("replaces",))
def replacing_alike(subject: PartSubject) -> None:
    """The same sample is replaced alike in any batch."""
    batch, part = subject.batch(), subject.built()
    whole = part.replace(*subject.hidden(batch))
    for samples in subsets(batch):
        tokens = part.replace(*subject.hidden(samples_of(batch, samples)))
        if not torch.equal(tokens.rows, whole.take(samples).rows):
            raise ConformanceError(
                "a sample is replaced otherwise beside other samples: draw from `among.noise`"
            )


@check("replacing", after=("replaces",))
def hides(subject: PartSubject) -> None:
    """Nothing of what was hidden shows in what stands in its place."""
    batch, part = subject.batch(), subject.built()
    hidden, among = subject.hidden(batch)
    rows = hidden.rows if hidden.counted is None else hidden.rows[hidden.counted]
    first = part.replace(hidden, among)
    tokens = changed(among.tokens, rows, among.spec)
    other = replace(batch, streams={subject.stream: tokens})
    second = part.replace(*subject.hidden(other))
    if not torch.equal(first.rows, second.rows):
        raise ConformanceError(
            "with other content in the hidden rows, its result is another: if it is meant to "
            "show (some tokens stay as they are), skip this check and say so"
        )


@check("replacing", after=("replaces",))
def replacing_learns(subject: PartSubject) -> None:
    """Every trainable parameter of it gets a gradient."""
    part = subject.built()
    if not list(part.parameters()):
        return
    batches = [subject.batch(LENGTHS, seed) for seed in range(2)]

    def size(batch: Batch) -> Tensor:
        return part.replace(*subject.hidden(batch)).rows.square().sum()

    require_gradients(part, [partial(size, batch) for batch in batches])


@check("replacing", after=("replaces",))
def replacing_saved(subject: PartSubject) -> None:
    """It is the same after saving, and can be pickled."""
    given = subject.hidden(subject.batch())
    require_saved(subject, lambda part: part.replace(*given).rows.detach(), subject.built())
