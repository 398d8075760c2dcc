"""Scores of ids: by the encoder's own table, or by weights of their own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import Head, Need, StreamInfo, Unembed


class _Transformed(Head):
    """A linear layer, GELU and a layer norm before the scores (BERT, Devlin et al., 2019)."""

    def _make(self, width: int, info: StreamInfo) -> None:
        self.transform = nn.Sequential(
            nn.Linear(width, info.width), nn.GELU(), nn.LayerNorm(info.width)
        )


class Tied(_Transformed):
    """A layer, a norm, and products with the encoder's own table of ids, plus a bias (BERT)."""

    def need(self) -> Need:
        """Return that the encoder must have a table."""
        return Need(table=True)

    def bind(self, width: int, outputs: int, info: StreamInfo) -> None:
        """Make the layer and the bias."""
        _check_ids(outputs, info)
        self._make(width, info)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def predict(
        self, vectors: Float[Tensor, "row width"], unembed: Unembed
    ) -> Float[Tensor, "row output"]:
        """Return the scores of the ids."""
        scores = unembed(self.transform(vectors))
        assert scores is not None  # `need` asks for a table
        return scores + self.bias


class Own(_Transformed):
    """A layer, a norm, and scores by weights of its own, plus a bias."""

    def bind(self, width: int, outputs: int, info: StreamInfo) -> None:
        """Make the layers and the bias."""
        self._make(width, info)
        self.own = nn.Linear(info.width, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def predict(
        self, vectors: Float[Tensor, "row width"], unembed: Unembed
    ) -> Float[Tensor, "row output"]:
        """Return the scores."""
        return self.own(self.transform(vectors)) + self.bias


class Table(Head):
    """Products with the encoder's own table of ids, no layer and no bias (CodeReviewer)."""

    def need(self) -> Need:
        """Return that the encoder must have a table."""
        return Need(table=True)

    def bind(self, width: int, outputs: int, info: StreamInfo) -> None:
        """Refuse vectors of another width than the table's."""
        _check_ids(outputs, info)
        if width != info.width:
            raise ValueError(
                f"heads.table needs vectors as wide as the encoder's ({info.width}), got {width}"
            )

    def predict(
        self, vectors: Float[Tensor, "row width"], unembed: Unembed
    ) -> Float[Tensor, "row output"]:
        """Return the scores of the ids."""
        scores = unembed(vectors)
        assert scores is not None  # `need` asks for a table
        return scores


def _check_ids(outputs: int, info: StreamInfo) -> None:
    if outputs != info.spec.vocabulary:
        raise ValueError(
            f"a table of {info.spec.vocabulary} ids can't give {outputs} outputs: use heads.linear"
        )
