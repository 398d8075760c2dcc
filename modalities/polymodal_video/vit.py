"""The packed transformer over tubelets, with joint or divided space-time attention."""

from typing import Literal, Unpack

from torch import nn

from polymodal import (
    NO_TAPS,
    Block,
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
    filled,
)
from polymodal_video.space_time import SpaceTimeBlock

SpaceTime = Literal["joint", "divided"]


class VideoTransformer(Encoder):
    """A transformer over the tubelets of clips.

    "joint" attention lets every tubelet see all of its clip (ViViT, model 1): the core's
    `TransformerEncoder`. "divided" mixes what lies at one place over time and then what lies at
    one time over space in each block (TimeSformer, section 3): its cost grows with times plus
    places instead of their product, for a third more parameters.

    Args:
        spec: what the tubelets are like.
        attention: "joint" or "divided".
        positions: "sinusoidal" or "learned" are added in the stem, "rotary" turns queries and keys.
        pool: "mean"; with joint attention also "class", "first" or "last".
        registers: further tokens inside the trunk; joint attention only.
        sizes: how large it is, and how its blocks are made; see `TransformerOptions`.

    Raises:
        ValueError: tokens without three bounded axes, or options that contradict each other.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        attention: SpaceTime = "joint",
        positions: PositionChoice = "sinusoidal",
        pool: Pool = "mean",
        registers: int = 0,
        **sizes: Unpack[TransformerOptions],
    ):
        super().__init__()
        if spec.axes != 3:
            raise ValueError(
                f"a video transformer needs positions (time, row, column), got {spec.axes} axes: "
                "tokenize by video.tubelets"
            )
        self.encoder = TransformerEncoder(
            spec,
            positions=positions,
            pool=pool,
            registers=registers,
            **sizes,
        )
        self.width = self.encoder.width
        self.attention = attention
        if attention == "divided":
            if pool == "class" or registers:
                raise ValueError(
                    "divided attention has no class token and no registers, which lie at no place "
                    'and no time: use pool "mean" and registers 0, or joint attention'
                )
            made = filled(TransformerOptions, sizes)
            if made["norm"] != "pre":
                raise ValueError("norm must be pre with divided attention, as in its paper")
            if spec.extent is None:
                raise ValueError("divided attention needs positions with a known bound")
            trunk = self.encoder.trunk
            trunk.blocks = nn.ModuleList(
                SpaceTimeBlock(
                    block, heads=block.attention.heads, dropout=made["dropout"], extent=spec.extent
                )
                for block in trunk.blocks
                if isinstance(block, Block)
            )

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors: of values and places."""
        return self.encoder.embed(tokens)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the trunk's vectors, pooled as the options say.

        Raises:
            ValueError: a tap this encoder does not have; divided attention has no maps of a clip.
        """
        if taps.attention and self.attention == "divided":
            raise ValueError("divided attention has no maps over a whole clip to tap")
        return self.encoder.contextualize(encoded, taps=taps)

    def layers(self) -> list[nn.Module]:
        """Return the stem and the blocks."""
        return self.encoder.layers()
