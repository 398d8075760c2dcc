"""What the model itself attends to (VIOLET)."""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Candidates, Encoded, Hidden, Hiding, Rounding, Taps, check_ratio


class Attended(Hiding):
    """Hide the tokens that the stream's encoder attends to most (VIOLET, Fu et al., 2021, 3.3).

    A token's weight is the attention it gets from all tokens of its segment: the mean over heads,
    the sum over blocks. Tokens are drawn without replacement at these weights, so that two passes
    over the same sample hide other tokens. Attention is taken without gradients from a pass over
    the whole stream, which costs one forward pass more. The paper draws over words and patches
    together, by the attention of its fusion; this is of one stream, by its own encoder.

    Args:
        ratio: share of each segment's tokens that may be hidden.
        blocks: whose attention, from 0; negative ones count from the last. All, in the paper.
        rounding: of the number hidden; "down" in the paper's code.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a ratio out of range, no blocks; at the first step, an encoder without
            attention maps.
    """

    def __init__(
        self,
        ratio: float = 0.15,
        *,
        blocks: tuple[int, ...] = (-1,),
        rounding: Rounding = "down",
        at_least: int = 1,
    ):
        super().__init__()
        if not blocks:
            raise ValueError("blocks must name one block or more")
        self.ratio = check_ratio(ratio)
        self.blocks = tuple(blocks)
        self.rounding: Rounding = rounding
        self.at_least = at_least

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        with torch.no_grad():
            encoded = among.step.encode_tokens(
                among.stream, among.tokens, taps=Taps(attention=self.blocks)
            )
        weight = received(encoded).float()
        # The lowest of exponential waiting times: a draw without replacement at these rates.
        waits = -torch.log1p(-among.noise("choice")) / weight.clamp(min=1e-12)
        return among.lowest(waits, self.ratio, rounding=self.rounding, at_least=self.at_least)


def received(encoded: Encoded) -> Float[Tensor, " token"]:
    """Return the attention that each token gets, summed over its segment and the tapped blocks.

    The mean over heads. Class tokens and registers, which come first in a map, are left out of
    what is looked at. Tokens that an encoder merged share the attention of what they became.

    Raises:
        ValueError: the encoder gave no attention maps.
    """
    if not encoded.attention:
        raise ValueError("hiding.attended needs an encoder that can give its attention maps")
    layout = encoded.layout
    total = encoded.vectors.new_zeros(layout.tokens)
    for maps in encoded.attention.values():
        parts = [each.mean(dim=0).sum(dim=0)[len(each[0]) - length :] for each, length in
                 zip(maps, layout.lengths, strict=True)]  # fmt: skip
        total = total + torch.cat([total[:0], *parts])
    return total if encoded.source is None else total[encoded.source]
