"""What the model itself attends to (VIOLET)."""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Candidates, Encoded, Hidden, Hiding, Taps, check_ratio


class Attended(Hiding):
    """Hide the tokens that the stream's encoder attends to most (VIOLET, Fu et al., 2021, 3.3).

    A token's weight is the attention it gets from all tokens of its segment in one block, the mean
    over heads. Tokens are drawn without replacement at these weights, so that two passes over the
    same sample hide other tokens. Attention is taken without gradients from a pass over the whole
    stream, which costs one forward pass more.

    Args:
        ratio: share of each segment's tokens.
        block: whose attention, from 0; negative ones count from the last.
        at_least: hide so many tokens of every segment that has them.

    Raises:
        ValueError: a ratio out of range; at the first step, an encoder without attention maps.
    """

    def __init__(self, ratio: float = 0.15, *, block: int = -1, at_least: int = 1):
        super().__init__()
        self.ratio = check_ratio(ratio)
        self.block = block
        self.at_least = at_least

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        with torch.no_grad():
            encoded = among.step.encode_tokens(
                among.stream, among.tokens, taps=Taps(attention=(self.block,))
            )
        weight = received(encoded)
        # The lowest of exponential waiting times: a draw without replacement at these rates.
        waits = -torch.log1p(-among.noise("choice")) / weight.clamp(min=1e-12)
        return among.lowest(waits, self.ratio, at_least=self.at_least)


def received(encoded: Encoded) -> Float[Tensor, " token"]:
    """Return the attention each token gets in the block that was tapped, summed over its segment.

    The mean over heads. Class tokens and registers, which come first in a map, are left out of
    what is looked at.

    Raises:
        ValueError: the encoder gave no attention maps.
    """
    maps = next(iter(encoded.attention.values()), None)
    if maps is None:
        raise ValueError("hiding.attended needs an encoder that can give its attention maps")
    layout = encoded.layout
    parts = [each.mean(dim=0).sum(dim=0)[-length:] for each, length in
             zip(maps, layout.lengths, strict=True) if length]  # fmt: skip
    return torch.cat(parts) if parts else encoded.vectors.new_zeros(0)
