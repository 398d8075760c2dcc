"""One linear layer."""

from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Head, StreamInfo, Unembed


class Linear(Head):
    """One linear layer from vectors to outputs (SimMIM, BEiT, ELECTRA)."""

    def bind(self, width: int, outputs: int, info: StreamInfo) -> None:
        """Make the layer."""
        self.linear = nn.Linear(width, outputs)

    def predict(
        self, vectors: Float[Tensor, "row width"], unembed: Unembed
    ) -> Float[Tensor, "row output"]:
        """Return the layer's outputs."""
        found: Tensor = self.linear(vectors)
        return found
