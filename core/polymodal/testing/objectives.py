"""Checks of objectives: computed on toy streams with tiny real encoders. Sums are in `sums`."""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polymodal.ground.errors import nearest
from polymodal.interfaces.capabilities import Representing
from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.objective import Objective
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.packed.batch import Batch
from polymodal.testing.comparing import (
    far,
    figures,
    plain,
    random_state_kept,
    random_state_untouched,
    same,
)
from polymodal.testing.modules import (
    HALVES,
    descend,
    require_finite_gradients,
    require_gradients,
    through_a_file,
    wide,
)
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import (
    LENGTHS,
    OBJECTIVE,
    TOY_STREAMS,
    Modules,
    loss_of,
    toy_batch,
    toy_info,
    toy_model,
)

TRAINED = 1e-4  # tolerance of losses after some steps in float32


@dataclass
class ObjectiveSubject:
    """An objective under examination.

    Args:
        make: builds it from what is known of the streams.
        raws: what its views are made of, if they are to be checked.
        modules: makes what it shares with others; toy fusions unless given.
    """

    make: Callable[[Mapping[str, StreamInfo]], Objective]
    raws: Sequence[Any] = ()
    modules: Modules | None = None

    def built(self, seed: int = 0) -> Objective:
        """Return a fresh objective, its weights drawn with this seed."""
        with random_state_kept(seed):
            return self.make(toy_info())

    @cached_property
    def objective(self) -> Objective:
        """One to ask about needs and fields; checks train others."""
        return self.built()

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams it needs."""
        return tuple(self.objective.needs())

    def model(self, seed: int = 0) -> PretrainingModel:
        """Return a model around a fresh objective."""
        return toy_model(self.built(seed), self.streams, modules=self.modules, seed=seed)

    def batch(
        self,
        *,
        lengths: Sequence[int] = LENGTHS,
        absent: Mapping[str, Sequence[int]] | None = None,
        seed: int = 0,
    ) -> Batch:
        """Return a batch of the streams, fields and views it asks for."""
        views = {f"{OBJECTIVE}/{name}": v.stream for name, v in self.objective.views().items()}
        return toy_batch(
            self.streams, lengths=lengths, absent=absent, fields=self.objective.fields(),
            views=views, seed=seed,
        )  # fmt: skip

    def exact(self) -> tuple[PretrainingModel, Batch]:
        """Return a model and a batch in float64, so that only real differences show."""
        batch = self.batch()
        streams = {name: wide(tokens) for name, tokens in batch.streams.items()}
        return self.model().double(), replace(batch, streams=streams)


@check("objective")
def computes(subject: ObjectiveSubject) -> None:
    """Its needs are met, and it returns a Loss."""
    objective = subject.objective
    if not isinstance(objective, Objective):
        raise ConformanceError(f"{type(objective).__name__} is no Objective: subclass it")
    needs = objective.needs()
    if not needs:
        raise ConformanceError("`needs` names no streams: a config could not be checked")
    info = toy_info()
    for stream, need in needs.items():
        if stream not in info:
            raise ConformanceError(
                f"`needs` names {stream!r}, which is no stream.{nearest(stream, info)}"
            )
        unmet = need.unmet(info[stream])
        if unmet:
            raise ConformanceError(
                f"its constructor accepts the stream {stream!r}, on which it {unmet}"
            )
    for view in objective.views().values():
        if view.stream not in TOY_STREAMS:
            raise ConformanceError(f"a view is of {view.stream!r}, which is no stream")
    loss_of(subject.model(), subject.batch())


@check("objective", after=("computes",))
def shapes(subject: ObjectiveSubject) -> None:
    """The total is one finite number on the graph; count and metrics are plain numbers."""
    loss = loss_of(subject.model(), subject.batch())
    if loss.total.dim():
        raise ConformanceError(f"`total` must be one number, got shape {list(loss.total.shape)}")
    if not bool(loss.total.isfinite()):
        raise ConformanceError(f"`total` is {plain(loss.total)}")
    if loss.total.dtype not in (torch.float32, torch.float64):
        raise ConformanceError(f"`total` must be summed in float32, got {loss.total.dtype}")
    if not loss.total.requires_grad:
        raise ConformanceError("`total` has no gradient: it was detached or made of constants")
    if plain(loss.count) <= 0:
        raise ConformanceError(
            f"`count` is {plain(loss.count)} on a batch with tokens in every stream"
        )
    for name, (total, count) in loss.metrics.items():
        value = plain(total) + plain(count)
        if value != value:
            raise ConformanceError(f"the metric {name!r} is NaN")
        if isinstance(total, Tensor) and total.requires_grad:
            raise ConformanceError(f"the metric {name!r} keeps the graph alive: detach it")


@check("objective", after=("computes", "shapes"))
def state(subject: ObjectiveSubject) -> None:
    """State moves in `after_update` alone, not in `forward`, and keeps no graph alive."""
    model, batch = subject.model(), subject.batch()
    objective = model.objective(OBJECTIVE)
    before = {name: value.clone() for name, value in _state_of(objective)}
    loss = loss_of(model, batch)
    moved = [n for n, value in _state_of(objective) if not same(value.detach(), before[n])]
    if moved:
        raise ConformanceError(
            f"`forward` changes {', '.join(moved)}: a step may make several forward passes and "
            "evaluation makes some, so change state in `after_update`"
        )
    descend(model, loss.total)
    _after(model, batch, 0)
    hanging = [name for name, value in objective.named_buffers() if value.requires_grad]
    if hanging:
        raise ConformanceError(
            f"`after_update` leaves {', '.join(hanging)} on the graph: detach what it stores"
        )


def _state_of(objective: Objective) -> Iterator[tuple[str, Tensor]]:
    """Yield what is saved of it but for batch norms' statistics, which move in `forward`."""
    for prefix, module in objective.named_modules():
        own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        if not isinstance(module, nn.modules.batchnorm._NormBase):
            buffers = module.named_buffers(recurse=False)
            own |= {n: b for n, b in buffers if n not in module._non_persistent_buffers_set}
        for name, value in own.items():
            yield f"{prefix}.{name}".removeprefix("."), value


@check("objective", after=("computes", "state"))
def randomness(subject: ObjectiveSubject) -> None:
    """Noise comes from the step: the same step gives the same loss, another step other noise."""
    model, batch = subject.model(), subject.batch()
    with random_state_kept(1):
        first = figures(loss_of(model, batch, number=3))
    with random_state_kept(2):
        second = figures(loss_of(model, batch, number=3))
    if first != second:
        raise ConformanceError(
            f"the same step gives the losses {first[0]:g} and {second[0]:g}: draw from "
            "`step.uniform`, so that nothing random needs saving, and change nothing in `forward`"
        )


@check("objective", after=("computes", "randomness"))
def global_state(subject: ObjectiveSubject) -> None:
    """Without dropout, global random state is neither drawn from nor set."""
    model, batch = subject.model(), subject.batch()
    with random_state_untouched("the objective"):
        loss = loss_of(model, batch)
        loss.total.backward()
        _after(model, batch, 0)


def _after(model: PretrainingModel, batch: Batch, number: int) -> None:
    step = Step(model, batch, number=number, total=100)
    step.objective = OBJECTIVE
    model.objective(OBJECTIVE).after_update(step)


@check("objective", after=("computes",))
def views(subject: ObjectiveSubject) -> None:
    """Views can be sent to data workers; copies follow from the generator given alone."""
    for name, view in subject.objective.views().items():
        try:
            sent = pickle.loads(pickle.dumps(view))
        except Exception as error:
            raise ConformanceError(
                f"the view {name!r} can't be pickled, so no data worker can have it: make it a "
                f"module-level function or a partial of one ({error})"
            ) from error
        for raw in subject.raws:
            copies = []
            for make in (view.make, sent.make):
                given = copy.deepcopy(raw)
                with random_state_untouched(f"the view {name!r}"):
                    copies.append(make(given, {view.stream: given}, np.random.default_rng(1)))
                if not same(given, raw):
                    raise ConformanceError(
                        f"the view {name!r} changes the raw value it is given: work on a copy"
                    )
            if not same(*copies):
                raise ConformanceError(
                    f"the view {name!r} gives two copies from equal generators: draw from the "
                    "generator given alone"
                )


@check("objective", after=("computes", "shapes"))
def absent(subject: ObjectiveSubject) -> None:
    """Samples that lack a stream, and a batch in which none has it, give no NaN."""
    cases: dict[str, Mapping[str, Sequence[int]]] = {
        "with samples that lack a stream": {
            stream: [number, number + 1] for number, stream in enumerate(subject.streams)
        },
        **{f"without the stream {s!r}": {s: range(len(LENGTHS))} for s in subject.streams},
    }
    for when, without in cases.items():
        model = subject.model()
        batch = subject.batch(absent=without)
        loss = loss_of(model, batch)
        if not bool(loss.total.isfinite()):
            raise ConformanceError(f"{when} the loss is {plain(loss.total)}")
        if loss.total.requires_grad:
            loss.total.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise ConformanceError(f"{when} the gradient of {name} is NaN or infinite")
        _after_safely(model, batch, when)


def _after_safely(model: PretrainingModel, batch: Batch, when: str) -> None:
    """Let the objective follow an update, and refuse NaN in its state."""
    _after(model, batch, 0)
    for name, value in model.objective(OBJECTIVE).state_dict().items():
        if isinstance(value, Tensor) and bool(value.isnan().any()):
            raise ConformanceError(
                f"{when} `after_update` makes {name} NaN: leave state as it is where there are no "
                "rows to learn it from"
            )


@check("objective", after=("computes", "shapes", "absent", "gradients"))
def zero_tokens(subject: ObjectiveSubject) -> None:
    """Without tokens or samples the loss is a zero with a gradient; one token is enough to run."""
    for lengths, when in (([0, 0], "without tokens"), ([], "without samples")):
        model, batch = subject.model(), subject.batch(lengths=lengths)
        loss = loss_of(model, batch)
        total, count = figures(loss)
        if total != 0 or count != 0:
            raise ConformanceError(f"{when} the loss is {total:g} over {count:g}, not 0 over 0")
        require_finite_gradients(model.objective(OBJECTIVE), loss.total, when)
        _after_safely(model, batch, when)
    for stream in subject.streams:
        model = subject.model()
        loss = loss_of(model, subject.batch(absent={stream: range(len(LENGTHS))}))
        when = f"without the stream {stream!r}"
        require_finite_gradients(model.objective(OBJECTIVE), loss.total, when)
    for lengths, when in (([1], "with a single token"), ([1, 0, 1], "with single tokens")):
        model = subject.model()
        loss = loss_of(model, subject.batch(lengths=lengths))
        if not bool(loss.total.isfinite()):
            raise ConformanceError(f"{when} the loss is {plain(loss.total)}")
        require_finite_gradients(model.objective(OBJECTIVE), loss.total, when)


@check("objective", after=("computes", "shapes"))
def gradients(subject: ObjectiveSubject) -> None:
    """Every trainable parameter of it gets a gradient within a few steps."""
    model = subject.model()

    def one(number: int) -> Callable[[], Tensor]:
        return lambda: loss_of(model, subject.batch(seed=number), number=number).total

    require_gradients(model.objective(OBJECTIVE), [one(number) for number in range(4)])


@check("objective", after=("computes", "shapes", "randomness"))
def saved_state(subject: ObjectiveSubject) -> None:
    """After some steps, the model's `state_dict` brings a fresh one to the same loss."""
    model = subject.model()
    for number in range(4):
        batch = subject.batch(seed=number)
        descend(model, loss_of(model, batch, number=number).total)
        _after(model, batch, number)
    fresh = subject.model(seed=1)
    through_a_file(model, fresh)
    batch = subject.batch(seed=9)
    for each in (model, fresh):  # state that decides what comes after the next step counts too
        with torch.no_grad():
            loss_of(each, batch, number=9)
            _after(each, batch, 9)
    (total, count), (fresh_total, fresh_count) = (
        figures(loss_of(each, subject.batch(seed=10), number=10)) for each in (model, fresh)
    )
    if far(fresh_total, total, TRAINED) or far(fresh_count, count, TRAINED):
        raise ConformanceError(
            f"the loss goes on at {total:g} after training and at {fresh_total:g} when loaded: "
            "keep what changes in training in parameters or persistent buffers"
        )


@check("objective", after=("computes", "shapes", "randomness"))
def half_precision(subject: ObjectiveSubject) -> None:
    """Under autocast to bfloat16 and float16 the loss is finite and near float32, on large values
    too.
    """
    for scale in (1.0, 100.0):
        model, batch = subject.model(), subject.batch()
        streams = {
            name: tokens if tokens.values is None else tokens.with_rows(tokens.values * scale)
            for name, tokens in batch.streams.items()
        }
        batch = Batch(streams, batch.samples, batch.keys, batch.sources, batch.fields)
        wanted, count = figures(loss_of(model, batch))
        for dtype in HALVES:
            with torch.autocast("cpu", dtype):
                loss = loss_of(model, batch)
            found = plain(loss.total)
            if not abs(found) < float("inf"):
                raise ConformanceError(
                    f"in {dtype}, with values around {scale:g}, the loss is {found}: work "
                    "distances and sums out in float32"
                )
            if loss.total.dtype not in (torch.float32, torch.float64):
                raise ConformanceError(f"in {dtype} the loss is summed in {loss.total.dtype}")
            if isinstance(loss.count, Tensor) and loss.count.dtype in HALVES:
                raise ConformanceError(
                    f"in {dtype} `count` is a {loss.count.dtype}, which skips whole numbers: count "
                    "in whole numbers or float32"
                )
            if abs(found - wanted) > 0.05 * max(abs(wanted), count):
                raise ConformanceError(
                    f"in {dtype}, with values around {scale:g}, the loss is {found:g}, in float32 "
                    f"{wanted:g}: work distances and sums out in float32"
                )
            if scale > 1 or not loss.total.requires_grad:
                continue
            model.zero_grad(set_to_none=True)
            (loss.total / max(count, 1)).backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                    raise ConformanceError(f"in {dtype} the gradient of {name} overflows")


@check("objective", after=("computes", "shapes"))
def projection(subject: ObjectiveSubject) -> None:
    """`represent` gives a finite vector a sample for every stream it needs."""
    model = subject.model().eval()
    objective = model.objective(OBJECTIVE)
    if not isinstance(objective, Representing):
        return
    step = Step(model, subject.batch(absent={s: [0] for s in subject.streams}))
    for stream in subject.streams:
        with torch.no_grad():
            rows = objective.represent(step, stream)
        if rows.dim() != 2 or len(rows) != len(LENGTHS) or not bool(rows.isfinite().all()):
            raise ConformanceError(
                f"`project` or `represent` of {stream!r} must give a finite vector for each of "
                f"{len(LENGTHS)} samples, got shape {list(rows.shape)}"
            )
