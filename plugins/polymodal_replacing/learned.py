"""A learned vector in the place of values."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Candidates, Hidden, Need, Replacing, StreamInfo, Tokens


class Learned(Replacing):
    """Put one learned vector in the place of the hidden values (SimMIM, Xie et al., 2022).

    It stands where the values stood, so that the stem adds the position to it as to any other.
    """

    def need(self) -> Need:
        """Return that the stream must have values."""
        return Need(values=True)

    def bind(self, info: StreamInfo) -> None:
        """Make the vector."""
        self.vector = nn.Parameter(torch.randn(info.spec.features) * 0.02)

    def replace(self, hidden: Hidden, among: Candidates) -> Tokens:
        """Return the tokens with the vector at the hidden rows."""
        assert hidden.tokens.values is not None
        rows = hidden.rows if hidden.counted is None else hidden.rows[hidden.counted]
        return hidden.tokens.with_rows(replaced(hidden.tokens.values, rows, self.vector))


def replaced(
    values: Float[Tensor, "token feature"], rows: Tensor, token: Float[Tensor, " feature"]
) -> Float[Tensor, "token feature"]:
    """Return values with one vector in the place of these rows."""
    fill = token.to(values.dtype).expand(len(rows), -1)
    return values.index_put((rows,), fill)
