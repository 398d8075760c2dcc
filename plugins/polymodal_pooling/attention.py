"""A sample's vector as a weighted sum of its tokens', the weights learned."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Encoded, Pooler


class Attention(Pooler):
    """Weighs tokens by how well they match a learned vector (HAN, Yang et al., 2016, eqs. 5-7)."""

    def bind(self, width: int) -> None:
        """Make the weights."""
        self.hidden = nn.Linear(width, width)
        self.context = nn.Linear(width, 1, bias=False)

    def pool(self, encoded: Encoded) -> Float[Tensor, "sample width"]:
        """Return one vector a sample, zero for one without tokens."""
        vectors, layout = encoded.vectors, encoded.layout
        scores = self.context(torch.tanh(self.hidden(vectors)))[:, 0].float()
        sample = layout.sample
        highest = scores.detach().new_zeros(layout.samples)
        highest = highest.scatter_reduce(0, sample, scores.detach(), "amax", include_self=False)
        risen = (scores - highest[sample]).exp()
        total = risen.new_zeros(layout.samples).index_add(0, sample, risen)
        weighted = (risen / total[sample])[:, None].to(vectors.dtype) * vectors
        return vectors.new_zeros(layout.samples, encoded.width).index_add(0, sample, weighted)
