"""What only some objectives can do. One that can inherits the class; others ask for it by type."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from polymodal.interfaces.objective import Loss, Objective
from polymodal.interfaces.step import Shares, Step
from polymodal.packed.tokens import Encoded, Tokens


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


class Scoring(Objective, ABC):
    """Scores classes off vectors, so that others may ask how its scores change with them."""

    logits_of: Literal["token", "sample"] | None = None
    """What `logits` has a row for; None where this one's options leave it without."""

    @abstractmethod
    def logits(
        self, step: Step, stream: str, encoded: Encoded
    ) -> Float[Tensor, "token_or_sample class"]:
        """Return the scores over classes it reads off a stream's vectors, as `logits_of` says."""


class Predicting(Objective, ABC):
    """Predicts something of a sample, a class or a text, that evaluations compare with labels."""

    @abstractmethod
    def predictions(self, step: Step) -> Predicted:
        """Return what it predicts of samples, without looking at their labels.

        Raises:
            DataError: with these options it predicts nothing of the kind.
        """


class Representing(Objective, ABC):
    """Gives the vectors by which it, or an evaluation, compares samples."""

    def project(self, stream: str, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return the vectors by which this objective compares samples; pooled rows by default."""
        return encoded.pooled_rows()

    def represent(self, step: Step, stream: str) -> Float[Tensor, "sample width"]:
        """Return the vectors by which evaluations know a stream's samples; `project` by default.

        One that sees streams through a fusion gives the fused vectors here, and names in `beside`
        what they are fused with. A sample may lack any of them.
        """
        return self.project(stream, step.encode(stream))

    def beside(self, stream: str) -> tuple[str, ...]:
        """Return the sample's other streams that `represent` takes in; none by default."""
        return ()


class Phased(Objective, ABC):
    """Makes updates before the step's own, of parameters that no other loss moves."""

    @abstractmethod
    def phases(self) -> Mapping[str, Phase]:
        """Return the updates to make, by name; asked once, when training starts.

        Each has an AdamW of its own. Gradients that the step's own losses leave in a phase's
        parameters are dropped.
        """

    @abstractmethod
    def phase_loss(self, step: Step, phase: str) -> Loss:
        """Return the loss that one of the `phases` lowers; only its parameters are moved."""


class Sharing(Objective, Shares, ABC):
    """Lets others read what it makes of a step (`step.shared`): heads on one corrupted copy.

    `share` returns it.
    """


class Asking(Objective, ABC):
    """Asks other objectives for their scores, whose weights then have gradients by it."""

    @abstractmethod
    def shares(self) -> tuple[str, ...]:
        """Return the names of the objectives whose `logits` it asks for."""
