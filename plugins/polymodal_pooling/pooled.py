"""The mean of a sample's vectors, or its first."""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Encoded, Pooler


class Mean(Pooler):
    """The mean of a sample's vectors, those of all its segments alike."""

    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return a vector a sample, zero for one without tokens."""
        layout, vectors = encoded.layout, encoded.vectors
        sample = layout.sample
        total = vectors.new_zeros(layout.samples, encoded.width).index_add(0, sample, vectors)
        return total / torch.bincount(sample, minlength=layout.samples).clamp(min=1)[:, None]


class First(Pooler):
    """The vector of a sample's first token."""

    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return a vector a sample, zero for one without tokens."""
        layout = encoded.layout
        first: dict[int, int] = {}
        start = 0
        for sample, length in zip(layout.owners, layout.lengths, strict=True):
            if length:
                first.setdefault(sample, start)
            start += length
        at = torch.tensor([list(first), list(first.values())], dtype=torch.int64)
        at = at.reshape(2, -1).to(layout.device)
        empty = encoded.vectors.new_zeros(layout.samples, encoded.width)
        return empty.index_copy(0, at[0], encoded.vectors.index_select(0, at[1]))
