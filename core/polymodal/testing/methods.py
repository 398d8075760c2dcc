"""Checks of methods: attached to a toy model that trains a few steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.interfaces.component import FromRun, Need, StreamInfo
from polymodal.interfaces.method import Method
from polymodal.interfaces.objective import Loss, Objective
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.testing.comparing import random_state_kept, random_state_untouched
from polymodal.testing.modules import descend, require_gradients, through_a_file, trainable
from polymodal.testing.registry import ConformanceError, check
from polymodal.testing.toys import OBJECTIVE, TOY_STREAMS, loss_of, toy_batch, toy_info

STREAMS = ("patches", "words")


class _Size(Objective):
    """The size of every pooled vector: something to train on."""

    def __init__(self, info: FromRun[Mapping[str, StreamInfo]]):
        super().__init__()
        self.streams = tuple(info)

    def needs(self) -> Mapping[str, Need]:
        return {stream: Need() for stream in self.streams}

    def forward(self, step: Step) -> Loss:
        rows = [step.encode(stream).pooled_rows() for stream in self.streams]
        total: Tensor = torch.stack([(each - 1).square().sum() for each in rows]).sum()
        return Loss(total, step.batch.samples)


@dataclass
class MethodSubject:
    """A method under examination; `make` builds it from what is known of the streams."""

    make: Callable[[Mapping[str, StreamInfo]], Method]

    def model(self, seed: int = 0) -> PretrainingModel:
        """Return a toy model with the method attached."""
        info = toy_info(STREAMS)
        with random_state_kept(seed):
            method = self.make(info)
            if not isinstance(method, Method):
                raise ConformanceError(f"{type(method).__name__} is no Method: subclass it")
            return PretrainingModel(
                {s: s for s in STREAMS},
                {s: TOY_STREAMS[s].encoder() for s in STREAMS},
                {s: TOY_STREAMS[s].spec for s in STREAMS},
                objectives={OBJECTIVE: _Size(info)},
                methods={"method": method},
            )


def _step(model: PretrainingModel, number: int) -> float:
    batch = toy_batch(STREAMS, seed=number)
    method = model.methods["method"]
    assert isinstance(method, Method)
    method.before_step(number, 10)
    total = loss_of(model, batch, number=number).total
    if total.requires_grad:
        descend(model, total)
    method.after_update(Step(model, batch, number=number, total=10))
    return float(total.detach())


@check("method")
def trains(subject: MethodSubject) -> None:
    """A model it is attached to trains, with a finite loss, on full and on empty batches."""
    model = subject.model()
    for number in range(3):
        if not abs(_step(model, number)) < float("inf"):
            raise ConformanceError(f"with it the loss of step {number} is not finite")
    if not bool(loss_of(model, toy_batch(STREAMS, lengths=[0, 0])).total.isfinite()):
        raise ConformanceError("with it the loss of a batch without tokens is not finite")


@check("method", after=("trains",))
def gradients(subject: MethodSubject) -> None:
    """Every trainable parameter of it gets a gradient within a few steps."""
    model = subject.model()
    if not trainable(model.methods["method"]):
        return

    def one(number: int) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            model.methods["method"].before_step(number, 10)  # type: ignore[operator]
            return loss_of(model, toy_batch(STREAMS, seed=number), number=number).total

        return loss

    require_gradients(model.methods["method"], [one(number) for number in range(4)])


@check("method", after=("trains",))
def global_state(subject: MethodSubject) -> None:
    """Global random state is neither drawn from nor set."""
    model = subject.model()
    with random_state_untouched("the method"):
        _step(model, 0)


@check("method", after=("trains", "global_state"))
def saved_state(subject: MethodSubject) -> None:
    """The model's `state_dict` brings it back, what the method changed included."""
    model = subject.model()
    for number in range(3):
        _step(model, number)
    fresh = subject.model(seed=1)
    through_a_file(model, fresh)
    for number in (3, 4):
        wanted, found = _step(model, number), _step(fresh, number)
        if abs(wanted - found) > 1e-4 * max(abs(wanted), 1):
            raise ConformanceError(
                f"the loss goes on at {wanted:g} after training and at {found:g} when loaded: "
                "keep what changes in parameters or persistent buffers"
            )
