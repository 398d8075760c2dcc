"""Causal chain: the tokens of several streams as one sequence, each seeing those before it."""

from collections.abc import Mapping
from typing import Unpack

from polymodal import (
    NO_TAPS,
    BlockOptions,
    Encoded,
    FromRun,
    Fusion,
    Need,
    StreamInfo,
    StreamName,
    Taps,
    Transformer,
    segment_mean,
)
from polymodal_fusion.parts import bare, check_parts, check_streams, default_heads


class CausalChain(Fusion):
    """Chain streams within each sample and let every token see itself and those before it.

    The streams' encoders are the maps into the sequence (stems: depth 0, or causal ones), so they
    have the chain's width and nothing is projected or marked. Every stream comes back in its own
    layout. A sample that lacks a stream is simply shorter. Pooled is the mean over the stream's
    tokens of the vectors that leave the middle block: what next-token models know of their input
    is best read there (AstroPT, Smith et al., 2024).

    Args:
        info: the streams.
        streams: in the order of the sequence; all, by name, unless given.
        depth: how many blocks.
        heads: of attention; chosen by the width unless given.
        pool: number of the block after which vectors are pooled; -1 is the last one, depth // 2
            unless given.
        blocks: how they are made; see `BlockOptions`.

    Raises:
        ValueError: unknown or repeated streams, streams of several widths, an encoder that is not
            causal, or a block to pool after that there is not.
    """

    causal = True

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName] | None = None,
        depth: int = 2,
        heads: int | None = None,
        pool: int | None = None,
        **blocks: Unpack[BlockOptions],
    ):
        super().__init__()
        self.streams = tuple(sorted(info) if streams is None else streams)
        check_streams(info, self.streams, least=1)
        for stream in self.streams:
            Need(causal=True).check(info, stream)
        widths = {stream: info[stream].width for stream in self.streams}
        self.width = widths[self.streams[0]]
        if len(set(widths.values())) > 1:
            raise ValueError(f"chained streams need encoders of one width, got {widths}")
        self.pool = depth // 2 if pool is None else pool
        if depth < 1 or not -depth <= self.pool < depth:
            raise ValueError(f"no block {self.pool} to pool after: there are {depth}, from 0")
        self.transformer = Transformer(
            width=self.width,
            depth=depth,
            heads=default_heads(self.width) if heads is None else heads,
            causal=True,
            **blocks,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams in their order, with causal encoders."""
        return {stream: Need(causal=True) for stream in self.streams}

    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return each stream's vectors after the blocks, under the same names.

        Raises:
            ValueError: parts that are not this fusion's streams, or taps of attention: its maps
                belong to the whole sequence.
        """
        check_parts(self.streams, parts)
        if taps.attention:
            raise ValueError("fusion.causal_chain returns hidden layers, but no attention maps")
        entering = [parts[stream] for stream in self.streams]
        chained, places = Encoded.join(
            [Encoded(bare(part.layout), part.vectors, part.pooled) for part in entering]
        )
        out = self.transformer(
            chained.vectors, chained.layout, taps=Taps(hidden=(*taps.hidden, self.pool))
        )
        fused = {}
        for stream, place in zip(self.streams, places, strict=True):
            layout = parts[stream].layout
            hidden = {number: rows[place] for number, rows in out.hidden.items()}
            pooled = segment_mean(hidden[self.pool], layout)
            if self.pool not in taps.hidden:
                del hidden[self.pool]
            fused[stream] = Encoded(layout, out.vectors[place], pooled, hidden=hidden)
        return fused
