"""A transformer over bases or k-mers, blind to the strand if asked (Zhou et al., 2022)."""

from dataclasses import replace
from typing import Literal, Unpack

from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    Encoded,
    Encoder,
    FromRun,
    Pool,
    PositionChoice,
    Taps,
    Tokens,
    TokenSpec,
    TransformerEncoder,
    TransformerOptions,
)
from polymodal_genome.spec import GenomeSpec, reverse_complement_ids


class GenomeTransformer(Encoder):
    """The packed transformer with rotary positions, as sequences have no beginning that matters.

    With `reverse_complement: average` both strands are encoded, in one pass of twice the tokens,
    and `pooled` is the mean of the two, so a sequence and its reverse complement have the same
    (post-hoc conjoining, at training time too). Vectors of tokens, hidden layers and attention
    maps are those of the strand given. `embed` and `contextualize` called apart, as joint encoders
    do, see that strand alone.

    Args:
        spec: what the tokens are like; the other strand needs those of `genome.bases` or
            `genome.kmers`.
        positions: "rotary", which tells distances alone, or as in `TransformerEncoder`.
        causal: no token sees a later one of its segment.
        pool: "mean" over content, a "class" token, or the "first" or "last" token.
        registers: further tokens that live inside the trunk.
        reverse_complement: "average" pools over both strands, "none" over the one given.
        sizes: how large it is, and how its blocks are made; see `TransformerOptions`.

    Raises:
        ValueError: both strands with learned pieces, whose complements are no ids, or with causal
            attention, which the other strand would undo.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        positions: PositionChoice = "rotary",
        causal: bool = False,
        pool: Pool = "mean",
        registers: int = 0,
        reverse_complement: Literal["none", "average"] = "none",
        **sizes: Unpack[TransformerOptions],
    ):
        super().__init__()
        self.both: GenomeSpec | None = None
        if reverse_complement == "average":
            if not isinstance(spec, GenomeSpec) or spec.units == "pieces":
                raise ValueError(
                    "reverse_complement: average needs tokens whose complements are known: use "
                    "the tokenizer genome.bases or genome.kmers"
                )
            if causal:
                raise ValueError(
                    "reverse_complement: average can't go with causal: read backwards, the other "
                    "strand shows every token what comes after it"
                )
            self.both = spec
        self.strand = TransformerEncoder(
            spec,
            positions=positions,
            causal=causal,
            pool=pool,
            registers=registers,
            **sizes,
        )
        self.width = self.strand.width

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors of the strand given."""
        return self.strand.embed(tokens)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the trunk's vectors of the strand given, pooled over it alone.

        Raises:
            ValueError: a tap this encoder does not have.
        """
        return self.strand.contextualize(encoded, taps=taps)

    def forward(self, tokens: Tokens, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return vectors for tokens; `pooled` over both strands if the options say so."""
        if self.both is None:
            return super().forward(tokens, taps=taps)
        pair = Tokens.stack([tokens, reverse_complement_ids(tokens, self.both)])
        found = self.strand(pair, taps=taps)
        count, segments = tokens.layout.tokens, tokens.layout.segments
        return replace(
            found,
            layout=tokens.layout,
            vectors=found.vectors[:count],
            pooled=(found.pooled[:segments] + found.pooled[segments:]) / 2,
            hidden={number: rows[:count] for number, rows in found.hidden.items()},
            attention={number: maps[:segments] for number, maps in found.attention.items()},
        )

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over the vocabulary by the table of ids."""
        return self.strand.unembed(vectors)

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the bare vectors of ids."""
        return self.strand.embedding(ids)

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks."""
        return self.strand.layers()
