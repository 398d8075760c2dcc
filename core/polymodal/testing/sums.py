"""Checks of objectives: a loss is a sum over targets with their count, however a batch is cut."""

from typing import Any

from polymodal.interfaces.objective import Comparison
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.packed.batch import Batch
from polymodal.testing.comparing import far, figures, plain
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import OBJECTIVE, loss_of, take


@check("objective", after=("computes", "shapes", "randomness"))
def loss_is_a_sum(subject: ObjectiveSubject) -> None:
    """Every sample twice doubles total and count: a sum, not a mean."""
    model, batch = subject.exact()
    total, count = figures(loss_of(model, batch))
    twice = take(batch, [*range(batch.samples), *range(batch.samples)])
    twice_total, twice_count = figures(loss_of(model, twice))
    if far(twice_count, 2 * count):
        raise ConformanceError(
            f"`count` is {count:g} for a batch and {twice_count:g} for the same twice: it must be "
            "how many targets were scored"
        )
    # Where samples are compared, more of them make each one's task harder too.
    wrong = (
        far(twice_total, 2 * total)
        if model.objective(OBJECTIVE).separable
        else total > 0 and twice_total < 1.6 * total
    )
    if wrong:
        raise ConformanceError(
            f"`total` is {total:g} for a batch and {twice_total:g} for the same twice: return a "
            "sum over targets; the loop divides by the count of the whole step"
        )


@check("objective", after=("computes", "shapes", "randomness", "loss_is_a_sum"))
def batch_order(subject: ObjectiveSubject) -> None:
    """Samples in another order give the same loss."""
    model, batch = subject.exact()
    first = figures(loss_of(model, batch))
    order = [3, 0, 5, 1, 4, 2]  # neighbours part
    second = figures(loss_of(model, take(batch, order)))
    if far(second[0], first[0]) or far(second[1], first[1]):
        raise ConformanceError(
            f"the loss is {first[0]:g} over {first[1]:g} in one order of samples and "
            f"{second[0]:g} over {second[1]:g} in another"
        )


@check("objective", after=("computes", "shapes", "randomness", "loss_is_a_sum", "batch_order"))
def sample_leak(subject: ObjectiveSubject) -> None:
    """If it says `separable`, the losses of a batch's parts add up to that of the batch.

    The vectors of a `Comparison` are a part's own: all laid end to end compare as the batch does.
    """
    model, batch = subject.exact()
    if isinstance(model.objective(OBJECTIVE), Comparison):
        _require_own_vectors(model, batch)
    if not model.objective(OBJECTIVE).separable:
        return
    whole = figures(loss_of(model, batch))
    middle = batch.samples // 2
    for cut in ([[*range(middle)], [*range(middle, batch.samples)]],
                [[s] for s in range(batch.samples)]):  # fmt: skip
        parts = [figures(loss_of(model, take(batch, samples))) for samples in cut]
        total, count = (sum(part[i] for part in parts) for i in range(2))
        if far(total, whole[0]) or far(count, whole[1]):
            raise ConformanceError(
                f"in {len(cut)} parts the losses add up to {total:g} over {count:g}, the whole "
                f"batch has {whole[0]:g} over {whole[1]:g}: samples see each other. If they are "
                "meant to, set `separable = False`"
            )


def _require_own_vectors(model: PretrainingModel, batch: Batch) -> None:
    whole = figures(loss_of(model, batch))
    middle = batch.samples // 2
    parts = [take(batch, range(middle)), take(batch, range(middle, batch.samples))]
    named: dict[str, Any] = {"objectives": [OBJECTIVE], "number": 0, "total": 100, "seed": 0}
    vectors = [model.compare(part, **named)[OBJECTIVE] for part in parts]
    detached = [tuple(each.detach() for each in found) for found in vectors]
    compared = model.compare(parts[0], {OBJECTIVE: detached}, **named)[OBJECTIVE]
    found = figures(compared[0].loss)
    if far(found[0], whole[0]) or far(found[1], whole[1]):
        raise ConformanceError(
            f"compared by the vectors of two parts laid end to end, a batch has a loss of "
            f"{found[0]:g} over {found[1]:g}, at once {whole[0]:g} over {whole[1]:g}: `vectors` "
            "depends on other samples, or `compare` on more than the vectors"
        )


@check("objective", after=("computes", "shapes", "randomness", "sample_leak"))
def metrics(subject: ObjectiveSubject) -> None:
    """Metrics are sums with counts: over the parts of a batch they come to the same figures."""
    model, batch = subject.exact()
    if not model.objective(OBJECTIVE).separable:
        return
    whole = loss_of(model, batch).metrics
    cut = [[0], [*range(1, batch.samples)]]
    parts = [loss_of(model, take(batch, samples)).metrics for samples in cut]
    for name, (total, count) in whole.items():
        found = [part[name] for part in parts if name in part]
        count_of_parts = sum(plain(each[1]) for each in found)
        if not plain(count) or not count_of_parts:
            continue
        wanted = plain(total) / plain(count)
        figure = sum(plain(each[0]) for each in found) / count_of_parts
        if far(figure, wanted):
            raise ConformanceError(
                f"the metric {name!r} is {wanted:g} for a batch and {figure:g} from its parts: "
                "give a sum and what it is to be divided by, not a mean"
            )


@check("objective", after=("computes", "shapes", "randomness"))
def counts(subject: ObjectiveSubject) -> None:
    """`count`, where it answers, says what `forward` scores."""
    model = subject.model()
    absent = {stream: [number] for number, stream in enumerate(subject.streams)}
    for number, batch in enumerate((subject.batch(), subject.batch(absent=absent))):
        loss = loss_of(model, batch, number=number)
        step = Step(model, batch, number=number, total=100)
        step.objective = OBJECTIVE
        told = model.objective(OBJECTIVE).count(step)
        if told is not None and plain(told) != plain(loss.count):
            raise ConformanceError(
                f"`count` says {plain(told):g} targets, `forward` scores {plain(loss.count):g}"
            )
