"""Single tokens at random."""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import (
    Candidates,
    Choice,
    Hidden,
    Hiding,
    Layout,
    Rounding,
    by_score,
    check_ratio,
    put_last,
)


class RandomTokens(Hiding):
    """Hide a share of each segment's tokens, each equally likely (BERT, MAE, SimMIM).

    Args:
        ratio: share of those that may be hidden.
        rounding: of the number hidden: "nearest", "down" (CroCo) or "up" (MAE's code).
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a ratio that does not lie between 0 and 1.
    """

    def __init__(self, ratio: float = 0.15, *, rounding: Rounding = "nearest", at_least: int = 1):
        super().__init__()
        self.ratio = check_ratio(ratio)
        self.rounding: Rounding = rounding
        self.at_least = at_least

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        return among.lowest(
            among.noise("choice"), self.ratio, rounding=self.rounding, at_least=self.at_least
        )


class EachToken(Hiding):
    """Hide each token by itself with the same chance, and at least one of every segment (UNITER).

    Args:
        ratio: the chance.

    Raises:
        ValueError: a ratio that does not lie between 0 and 1.
    """

    def __init__(self, ratio: float = 0.15):
        super().__init__()
        self.ratio = check_ratio(ratio)

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden; waits for the device."""
        noise = put_last(among.noise("choice"), among.allowed)
        return Hidden(
            among.tokens, choose_each(noise, among.tokens.layout, self.ratio, leave=among.leave)
        )


def choose_each(
    noise: Float[Tensor, " token"], layout: Layout, ratio: float, *, leave: int = 0
) -> Choice:
    """Hide each token by itself with chance `ratio`, and at least one of every segment.

    Where chance would hide none, the token of the lowest noise is, which is each one equally
    likely. Tokens of infinite noise stay, and so do the last `leave` of each segment by noise.
    Waits for the device, since how many that makes depends on the noise.
    """
    lowest = noise.new_full((layout.segments,), torch.inf)
    lowest = lowest.scatter_reduce(0, layout.segment, noise, "amin")
    hidden = ((noise < ratio) | (noise == lowest[layout.segment])) & noise.isfinite()
    if leave:
        rank = torch.empty_like(layout.segment)
        rank[by_score(noise, layout)] = layout.within
        hidden = hidden & (rank < layout.offsets.diff()[layout.segment] - leave)
    return Choice.of_mask(hidden, layout)
