"""Objective and Loss: a pre-training task, and what it came to in one step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.interfaces.component import Need
from polymodal.interfaces.model import Model
from polymodal.interfaces.step import Step


@dataclass(frozen=True, eq=False)
class Loss:
    """A sum over scored targets, and how many there were: never a mean.

    The loop adds the counts of all ranks and micro-batches of a step before it divides, so what
    is learnt does not depend on how a batch was cut. With no targets, `total` is a zero that still
    hangs on the graph and `count` is 0.
    """

    total: Float[Tensor, ""]
    count: int | Tensor
    metrics: Mapping[str, tuple[float | Tensor, int | Tensor]] = field(default_factory=dict)
    # metrics: name -> (sum, count), added up like the loss before they are divided


def unchanged(raw: Any, sample: Mapping[str, Any], generator: np.random.Generator) -> Any:
    """Return the raw value as it is."""
    return raw


@dataclass(frozen=True)
class View:
    """A corrupted or second copy of a stream's raw value, made in the data worker.

    `make(raw, sample, generator)` returns the copy's raw value, which the stream's own tokenizer
    encodes. It must be picklable: a module-level function or a `functools.partial` of one. Left
    out, the raw value is the same and the tokenizer draws its random augmentation anew.
    """

    stream: str
    make: Callable[[Any, Mapping[str, Any], np.random.Generator], Any] = unchanged


class Objective(nn.Module, ABC):
    """A pre-training task: hide or build part of a batch, score how well it is recovered.

    A simple one has `needs` and `forward`, and perhaps `count` and `views`; the rest does nothing
    unless it is overridden. What only some can do (score classes, predict, represent samples, make
    updates of their own, share what they make) they declare by
    inheriting `Scoring`, `Predicting`, `Representing`, `Phased`, `Sharing` or `Asking`.

    Its constructor takes `info: FromRun[Mapping[str, StreamInfo]]` beside its options, and
    checks them there. Which modules run may depend on the step and the config, never on the data:
    with no row that has what it needs it makes the same passes over zero rows.
    """

    @abstractmethod
    def needs(self) -> Mapping[str, Need]:
        """Return the streams it reads and what it asks of each."""

    @abstractmethod
    def forward(self, step: Step) -> Loss:
        """Return the loss over this step's scored targets, and how many there were."""

    def count(self, step: Step) -> int | Tensor | None:
        """Return how many targets `forward` will score, from tokens alone; None if it can't tell.

        Asked only when a step is cut into micro-batches. Without an answer the loop makes a
        forward pass more.
        """
        return None

    def views(self) -> Mapping[str, View]:
        """Return further copies of streams to make in the data worker, by name.

        `step.tokens("<objective>/<name>")` has them.
        """
        return {}

    separable: bool = True
    """Whether the loss of a batch is the sum of the losses of its parts. A contrastive loss is
    not: the loop refuses to cut its batch into micro-batches, unless it is a `Comparison`."""

    def fields(self) -> tuple[str, ...]:
        """Return the fields of the sample it reads with `step.labels`, a class for example."""
        return ()

    def uses(self) -> tuple[str, ...]:
        """Return the names of the config's `modules` it shares, fusions for example."""
        return ()

    def attach(self, model: Model) -> None:
        """Take from the finished model what the objective keeps: a `Teacher` of an encoder, say.

        Called once, when the model is built; weights may be loaded afterwards, so that a copy
        must be part of the objective's own state.
        """

    def after_update(self, step: Step) -> None:
        """Follow an optimiser step: move EMA teachers, fill queues. State belongs in buffers."""


class Comparison(Objective):
    """A task that compares the samples of a batch with each other, by a few vectors of each.

    Splitting it in two lets the loop cut its batch into micro-batches all the same: vectors of all
    are made first, without gradients, then compared, then made again to take the gradient on (Gao
    et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
    """

    separable = False

    @abstractmethod
    def vectors(self, step: Step) -> tuple[Tensor, ...]:
        """Return what a batch's samples are compared by: tensors of any number of rows.

        Those of several micro-batches are laid end to end, each tensor for itself. They may depend
        on tokens and weights, not on other samples.
        """

    @abstractmethod
    def compare(self, step: Step, vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over these rows and those of other ranks (`step.gather`)."""

    def forward(self, step: Step) -> Loss:
        """Return the loss over this step's rows, and how many there were."""
        return self.compare(step, self.vectors(step))
