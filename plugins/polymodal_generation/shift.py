"""Which tokens have a next one."""

import torch
from jaxtyping import Int
from torch import Tensor

from polymodal import Encoded, Layout, ranges


def followed(layout: Layout) -> Int[Tensor, " row"]:
    """Return the rows that another token of the same segment follows: all but each last one."""
    counts = [max(length - 1, 0) for length in layout.lengths]
    lengths = torch.tensor(counts, dtype=torch.int64, device=layout.device)
    return ranges(layout.offsets[:-1], lengths, sum(counts))


def followed_count(layout: Layout) -> int:
    """Return how many rows another token of the same segment follows; host only."""
    return sum(max(length - 1, 0) for length in layout.lengths)


def check_rows(encoded: Encoded, stream: str, objective: str) -> None:
    """Refuse an encoder that changed the number of tokens.

    Raises:
        ValueError: it did.
    """
    if encoded.source is not None:
        raise ValueError(f"{objective}: the encoder of {stream!r} merges tokens, so none is next")
