"""The head of student and teacher, and the centre that keeps the teacher from one answer."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Teacher, sum_over_ranks
from polymodal_contrastive import BatchNorm


class Head(nn.Module):
    """A perceptron of three layers, its result on the unit sphere, against unit directions.

    The directions are a weight-normed layer whose norms stay 1 (Caron et al., 2021, appendix C).
    With `norm` the hidden layers have batch norms, over all rows and ranks.
    """

    def __init__(
        self, width: int, *, outputs: int, hidden: int, bottleneck: int, norm: bool = False
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((width, hidden, hidden, bottleneck)):
            linear = nn.Linear(before, after)
            # 0.02 at the paper's width of 2048; narrow heads would start all but linear with it.
            nn.init.trunc_normal_(linear.weight, std=before**-0.5)
            nn.init.zeros_(linear.bias)
            layers += [linear, *([BatchNorm(after)] if norm else []), nn.GELU()]
        self.body = nn.Sequential(*layers[: -2 if norm else -1])
        self.directions = nn.Parameter(torch.randn(outputs, bottleneck) * bottleneck**-0.5)

    def forward(
        self, vectors: Float[Tensor, "*row width"], *, frozen: bool = False
    ) -> Float[Tensor, "*row output"]:
        """Return logits, cosines in -1 to 1; with `frozen` the directions get a zero gradient.

        Zero, not none: every rank makes the same passes. Decay alone can't turn a direction.
        """
        directions = F.normalize(self.directions, dim=1)
        if frozen:
            directions = directions.detach() + 0 * directions
        found = self.body(vectors.flatten(0, -2)).unflatten(0, vectors.shape[:-1])
        logits: Tensor = F.normalize(found, dim=-1) @ directions.T
        return logits if logits.dtype == torch.float64 else logits.float()


class Centre(nn.Module):
    """A slow mean of the teacher's logits, over micro-batches and ranks (eq. 4).

    Args:
        outputs: of the head.
        momentum: share of the old centre that is kept in each step.
    """

    centre: Tensor
    noted: Tensor

    def __init__(self, outputs: int, *, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(outputs))
        # Of this step's passes: the logits' sum, and how many. `update` takes them, so they are
        # no state to save.
        self.register_buffer("noted", torch.zeros(outputs + 1), persistent=False)

    @torch.no_grad()
    def note(self, logits: Float[Tensor, "row output"]) -> None:
        """Take these logits into account at the next update."""
        count = logits.new_full((1,), len(logits))
        self.noted += torch.cat([logits.detach().sum(dim=0), count]).to(self.noted)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the mean of the logits noted on all ranks; not at all without any."""
        sums = sum_over_ranks(self.noted.clone())
        self.noted.zero_()
        mean = sums[:-1] / sums[-1].clamp(min=1)
        self.centre.lerp_(mean, (1 - self.momentum) * (sums[-1] > 0))


class Heads(nn.Module):
    """The student's head, its slow copy, and the centre of the copy's logits.

    Args:
        width: of the encoder's vectors.
        outputs: how many directions.
        hidden: width of the hidden layers.
        bottleneck: width before the last layer.
        centre_momentum: share of the old centre that is kept in each step.
        norm: whether the hidden layers have batch norms.

    Raises:
        ValueError: a size below 1, or a momentum that is no share.
    """

    def __init__(
        self,
        width: int,
        *,
        outputs: int,
        hidden: int,
        bottleneck: int,
        centre_momentum: float,
        norm: bool = False,
    ):
        super().__init__()
        sizes = {"outputs": outputs, "hidden": hidden, "bottleneck": bottleneck}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        if not 0 <= centre_momentum <= 1:
            raise ValueError(f"centre_momentum must lie between 0 and 1, got {centre_momentum}")
        self.student = Head(width, **sizes, norm=norm)
        self.teacher = Teacher(self.student)
        self.centre = Centre(outputs, momentum=centre_momentum)

    def logits(self, vectors: Float[Tensor, "*row width"]) -> Float[Tensor, "*row output"]:
        """Return the teacher's logits."""
        logits: Tensor = self.teacher(vectors)
        return logits

    def targets(
        self, logits: Float[Tensor, "*row output"], temperature: float
    ) -> Float[Tensor, "*row output"]:
        """Return the teacher's probabilities: less the centre as it is now, and sharpened."""
        return ((logits - self.centre.centre) / temperature).softmax(dim=-1)

    def guesses(
        self, vectors: Float[Tensor, "*row width"], temperature: float, *, frozen: bool
    ) -> Float[Tensor, "*row output"]:
        """Return the student's log-probabilities."""
        logits: Tensor = self.student(vectors, frozen=frozen)
        return (logits / temperature).log_softmax(dim=-1)

    def after_update(self, momentum: float) -> None:
        """Move the slow copy and the centre."""
        self.teacher.follow(self.student, momentum)
        self.centre.update()
