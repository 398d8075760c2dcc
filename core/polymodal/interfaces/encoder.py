"""Encoder and Fusion: from packed tokens to packed vectors, from several streams to several."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.interfaces.component import Need
from polymodal.packed.tokens import Encoded, Tokens


@dataclass(frozen=True)
class Taps:
    """Which blocks' outputs and attention maps to return in `Encoded`; -1 is the last block."""

    hidden: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()


NO_TAPS = Taps()


class Encoder(nn.Module, ABC):
    """Turns tokens into vectors: `embed` is the stem, `contextualize` the trunk.

    Its constructor takes `spec: FromRun[TokenSpec]` beside its options. Zero tokens, zero-length
    segments and zero samples are legal input, and every trainable parameter still takes part.
    One that returns fewer vectors than it has tokens says in `Encoded.source` where each went
    (`polymodal.nn.merging`).
    """

    width: int  # of the vectors
    causal: bool = False  # whether a token sees earlier ones alone

    @abstractmethod
    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors, one a token."""

    @abstractmethod
    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the trunk's vectors for the stem's, same rows in the same order.

        Raises:
            ValueError: a tap this encoder does not have.
        """

    def forward(self, tokens: Tokens, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return vectors for tokens: stem, then trunk."""
        return self.contextualize(self.embed(tokens), taps=taps)

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary_or_feature"] | None:
        """Return the way back by the stem's own weights, None where there is none.

        Scores over the vocabulary where tokens have ids, values where they have values.
        """
        return None

    def layers(self) -> list[nn.Module]:
        """Return the blocks in order, stem first, for freezing and rates by depth."""
        return [self]

    def no_weight_decay(self) -> frozenset[str]:
        """Return names of its own parameters, patterns too, that do not decay beside vectors.

        Biases and norms never do; this is for positions, class tokens and the like.
        """
        return frozenset()

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the stem's bare vectors of ids, without position.

        Raises:
            ValueError: this encoder has no table of ids.
        """
        raise ValueError(f"{type(self).__name__} has no table of ids")


class Fusion(nn.Module, ABC):
    """Lets several streams attend to each other: takes several `Encoded`, returns several.

    Its constructor takes `info: FromRun[Mapping[str, StreamInfo]]` beside its options. A config
    names fusions under `modules`; objectives share them by that name.
    """

    width: int  # of the vectors it returns
    causal: bool = False  # whether a token sees earlier ones alone, streams in the order of `needs`

    @abstractmethod
    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return each stream's vectors after fusing, under the same names."""

    def needs(self) -> Mapping[str, Need]:
        """Return the streams it reads and what it asks of each."""
        return {}
