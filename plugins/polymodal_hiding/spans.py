"""Contiguous spans (SpanBERT)."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polymodal import Candidates, Hidden, Hiding, Layout, check_ratio, put_last


class Spans(Hiding):
    """Hide contiguous spans of random length until a share of the tokens is hidden.

    Joshi et al. (2020, section 3.1): lengths are geometric, cut at `longest`.

    Args:
        ratio: share of each segment's tokens that may be hidden.
        stop: chance that a span ends after each token.
        longest: at most so many tokens.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, ratio: float = 0.15, *, stop: float = 0.2, longest: int = 10, at_least: int = 1
    ):
        super().__init__()
        self.ratio = check_ratio(ratio)
        if not 0 < stop < 1 or longest < 1:
            raise ValueError(
                f"stop must lie between 0 and 1 and longest be 1 or more, got {stop} and {longest}"
            )
        self.stop = stop
        self.longest = longest
        self.at_least = at_least

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        scores = span_scores(
            among.noise("choice"),
            among.noise("span"),
            among.tokens.layout,
            stop=self.stop,
            longest=self.longest,
            allowed=among.allowed,
        )
        return among.lowest(scores, self.ratio, at_least=self.at_least)


def span_scores(
    start_noise: Float[Tensor, " token"],
    length_noise: Float[Tensor, " token"],
    layout: Layout,
    *,
    stop: float,
    longest: int,
    allowed: Bool[Tensor, " token"] | None = None,
) -> Float[Tensor, " token"]:
    """Return scores that hide contiguous spans (SpanBERT, Joshi et al., 2020, section 3.1).

    A span of geometric length (it ends after each token with chance `stop`, and is at most
    `longest`: the distribution cut there) begins at every token; the spans with the lowest start
    noise come first. The last span of a segment is cut where the segment's count is reached.
    """
    start_noise = put_last(start_noise, allowed)
    reach = 1 - (1 - stop) ** longest
    length = 1 + ((-length_noise * reach).log1p() / math.log1p(-stop)).floor()
    length = length.clamp(max=longest)
    row = torch.arange(layout.tokens, device=layout.device)
    scores = start_noise
    unbroken = allowed
    for back in range(1, min(longest, layout.longest)):
        start = (row - back).clamp(min=0)
        covered = (layout.within >= back) & (length[start] > back)
        if allowed is not None and unbroken is not None:
            # A span does not reach across a token that stays.
            unbroken = unbroken & allowed[start]
            covered = covered & unbroken
        found = torch.where(covered, start_noise[start], torch.inf)
        scores = torch.minimum(scores, found)
    return put_last(scores, allowed)
