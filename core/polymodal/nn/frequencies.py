"""How often each id has been a target: where the scores of a vocabulary had better start from."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.ground.distributed import sum_over_ranks


class Frequencies(nn.Module):
    """Logarithms of how often each id was a target so far, to be added to scores.

    The first thing a model of ids learns is how often each occurs. A bias would say so, but Adam
    moves a bias by no more than the learning rate a step; where scores are products with the
    encoder's own table, the vectors get there first, all of them by one direction that they then
    have in common. Counting takes that lesson off their hands. What is learnt at the end is the
    same: a constant added to a score, which a bias can undo.

    Targets are noted in the forward pass and counted after the update, over micro-batches and
    ranks, so that a step's scores do not depend on how its batch was cut.

    Args:
        vocabulary: how many ids there are.
        smoothing: how often each is taken to have been seen before the first.
    """

    seen: Tensor
    noted: Tensor

    def __init__(self, vocabulary: int, *, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = smoothing
        # Whole numbers: a float32 count would stop growing at 2^24.
        self.register_buffer("seen", torch.zeros(vocabulary, dtype=torch.int64))
        # Of this step's passes; `update` takes them, so they are no state to save.
        self.register_buffer("noted", torch.zeros_like(self.seen), persistent=False)

    def forward(self) -> Float[Tensor, " vocabulary"]:
        """Return the logarithm of each id's share."""
        counts = self.seen + self.smoothing
        return (counts / counts.sum()).log()

    def note(
        self, target: Int[Tensor, " row"], counted: Bool[Tensor, " row"] | None = None
    ) -> None:
        """Count these ids, or those that `counted` says, at the next update; in training alone."""
        if self.training and torch.is_grad_enabled():
            weights = torch.ones_like(target) if counted is None else counted.long()
            self.noted.index_add_(0, target, weights)

    def update(self) -> None:
        """Count what was noted on all ranks since the last update."""
        self.seen += sum_over_ranks(self.noted.clone())
        self.noted.zero_()
