"""The mean of a sample's vectors, or its first."""

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal import Encoded, Pooler


class Mean(Pooler):
    """The mean of a sample's vectors."""

    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return a vector a sample."""
        return Encoded.mean_pooled(encoded.layout, encoded.vectors).pooled_rows()


class First(Pooler):
    """The vector of a sample's first token."""

    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return a vector a sample."""
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
