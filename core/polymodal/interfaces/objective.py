"""Objective and Loss: a pre-training task, and what it came to in one step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.ground.errors import DataError
from polymodal.interfaces.component import Need
from polymodal.packed.tokens import Encoded, Tokens

if TYPE_CHECKING:
    from polymodal.interfaces.step import Step
    from polymodal.model.model import PretrainingModel


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


@dataclass(frozen=True, eq=False)
class Phase:
    """Updates an objective makes before the step's own, of parameters that no other loss moves.

    An adversary's, say: several for one of the encoder that it is against.
    """

    parameters: Sequence[nn.Parameter]
    updates: int = 1  # a step
    learning_rate: float | None = None  # the optimizer's unless given; follows its schedule


@dataclass(frozen=True, eq=False)
class Predicted:
    """What an objective says of some samples of a batch: a value each."""

    rows: Sequence[int]  # samples of the batch
    values: Sequence[Any] | Tokens  # with tokens, a segment each
    stream: str | None = None  # of tokens: whose tokenizer makes values of them


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

    Its constructor takes `info: FromRun[Mapping[str, StreamInfo]]` beside its options, and
    checks them there. Which modules run may depend on the step and the config, never on the data:
    with no row that has what it needs it makes the same passes over zero rows.
    """

    separable: bool = True
    """Whether the loss of a batch is the sum of the losses of its parts. A contrastive loss is
    not: the loop refuses to cut its batch into micro-batches, unless it is a `Comparison`."""

    logits_of: Literal["token", "sample"] | None = None
    """What `logits` has a row for; None: this objective has none."""

    @abstractmethod
    def needs(self) -> Mapping[str, Need]:
        """Return the streams it reads and what it asks of each."""

    def attach(self, model: "PretrainingModel") -> None:
        """Take from the finished model what the objective keeps: a `Teacher` of an encoder, say.

        Called once, when the model is built; weights may be loaded afterwards, so that a copy
        must be part of the objective's own state.
        """

    def uses(self) -> tuple[str, ...]:
        """Return the names of the config's `modules` it shares, fusions for example."""
        return ()

    def shares(self) -> tuple[str, ...]:
        """Return the names of other objectives whose `logits` it asks for."""
        return ()

    @abstractmethod
    def forward(self, step: "Step") -> Loss:
        """Return the loss over this step's scored targets, and how many there were."""

    def share(self, step: "Step") -> Any:
        """Return what it makes of a step for other objectives to read with `step.shared`.

        The corrupted copy that it encodes, say: further heads then cost no further pass.
        """
        raise NotImplementedError(f"{type(self).__name__} shares nothing")

    def count(self, step: "Step") -> int | Tensor | None:
        """Return how many targets `forward` will score, from tokens alone; None if it can't tell.

        Asked only when a step is cut into micro-batches. Without an answer the loop makes a
        forward pass more.
        """
        return None

    def fields(self) -> tuple[str, ...]:
        """Return the fields of the sample it reads with `step.labels`, a class for example."""
        return ()

    def views(self) -> Mapping[str, View]:
        """Return further copies of streams to make in the data worker, by name.

        `step.tokens("<objective>/<name>")` has them.
        """
        return {}

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return the vectors by which this objective compares samples; pooled rows by default."""
        return encoded.pooled_rows()

    def represent(self, step: "Step", stream: str) -> Float[Tensor, "sample width"]:
        """Return the vectors by which evaluations know a stream's samples; `project` by default.

        One that sees streams through a fusion gives the fused vectors here, and names in `beside`
        what they are fused with. A sample may lack any of them.
        """
        return self.project(stream, step.encode(stream))

    def beside(self, stream: str) -> tuple[str, ...]:
        """Return the sample's other streams that `represent` takes in; none by default."""
        return ()

    def predictions(self, step: "Step") -> Predicted:
        """Return what it predicts of samples, classes or texts, without looking at their labels.

        Raises:
            DataError: it predicts nothing of the kind.
        """
        raise DataError(f"{type(self).__name__} has no predictions to evaluate")

    def logits(
        self, step: "Step", stream: str, encoded: Encoded
    ) -> Float[Tensor, "token_or_sample class"]:
        """Return the scores over classes it reads off a stream's vectors, as `logits_of` says.

        Others may ask how they change with the vectors.
        """
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def phases(self) -> Mapping[str, Phase]:
        """Return updates to make before the step's own, by name; asked once, when training starts.

        Each has an AdamW of its own. Gradients that the step's own losses leave in a phase's
        parameters are dropped.
        """
        return {}

    def phase_loss(self, step: "Step", phase: str) -> Loss:
        """Return the loss that one of the `phases` lowers; only its parameters are moved."""
        raise NotImplementedError(f"{type(self).__name__} has phases, but no phase_loss")

    def after_update(self, step: "Step") -> None:
        """Follow an optimiser step: move EMA teachers, fill queues. State belongs in buffers."""


class Comparison(Objective):
    """A task that compares the samples of a batch with each other, by a few vectors of each.

    Splitting it in two lets the loop cut its batch into micro-batches all the same: vectors of all
    are made first, without gradients, then compared, then made again to take the gradient on (Gao
    et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
    """

    separable = False

    @abstractmethod
    def vectors(self, step: "Step") -> tuple[Tensor, ...]:
        """Return what a batch's samples are compared by: tensors of any number of rows.

        Those of several micro-batches are laid end to end, each tensor for itself. They may depend
        on tokens and weights, not on other samples.
        """

    @abstractmethod
    def compare(self, step: "Step", vectors: tuple[Tensor, ...]) -> Loss:
        """Return the loss over these rows and those of other ranks (`step.gather`)."""

    def forward(self, step: "Step") -> Loss:
        """Return the loss over this step's rows, and how many there were."""
        return self.compare(step, self.vectors(step))
