"""Single-stream fusion: one Transformer over the tokens of all streams, chained by sample."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from polymodal import (
    EPSILON,
    NO_TAPS,
    BlockOptions,
    Encoded,
    FromRun,
    Fusion,
    Layout,
    Need,
    StreamInfo,
    StreamName,
    Taps,
    Transformer,
    filled,
)
from polymodal_fusion.parts import bare, check_parts, check_streams, default_heads


class SingleStream(Fusion):
    """Let every token of a sample attend to the tokens of all its streams (UNITER, ViLT).

    Each stream is projected, normalised and marked with a learned vector of its own; the streams
    are chained within each sample, in the order given, and go through one Transformer. Every stream
    comes back in its own layout. A sample that lacks a stream is simply shorter.

    Args:
        info: the streams.
        streams: two or more to fuse.
        width: of the fused vectors; the first stream's unless given.
        depth: how many blocks.
        heads: of attention; chosen by the width unless given.
        entering: how vectors enter, "projected", normalised and then marked; or "summed" with
            their mark, then normalised and dropped out, as BERT does with its embeddings: for
            encoders of the fusion's width that are little more than stems (UNITER, section 3.1).
        pool: streams and joint tokens by their "mean", or by their "first" token ([CLS]).
        joint: a name under which the chained tokens come back too, one segment a sample.
        blocks: how they are made; see `BlockOptions`. Dropout is also of what enters "summed".

    Raises:
        ValueError: fewer than two streams, unknown ones, a `joint` name that a stream has, or
            streams of another width that should enter "summed".
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        width: int | None = None,
        depth: int = 2,
        heads: int | None = None,
        entering: Literal["projected", "summed"] = "projected",
        pool: Literal["mean", "first"] = "mean",
        joint: str | None = None,
        **blocks: Unpack[BlockOptions],
    ):
        super().__init__()
        check_streams(info, streams)
        if joint is not None and joint in info:
            raise ValueError(f"joint: {joint!r} is the name of a stream; choose another")
        self.streams = tuple(streams)
        self.joint = joint
        self.width = info[streams[0]].width if width is None else width
        self.pool = pool
        widths = [info[name].width for name in streams]
        if entering == "summed" and set(widths) != {self.width}:
            raise ValueError(
                f"entering: summed needs streams of the fusion's width {self.width}, got {widths}; "
                "use projected"
            )
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, self.width), nn.LayerNorm(self.width))
            if entering == "projected"
            else nn.Identity()
            for width in widths
        )
        dropout = filled(BlockOptions, blocks)["dropout"]
        self.marked = nn.ModuleList(
            nn.Identity()
            if entering == "projected"
            else nn.Sequential(nn.LayerNorm(self.width, eps=EPSILON), nn.Dropout(dropout))
            for _ in streams
        )
        self.types = nn.Parameter(torch.randn(len(streams), self.width) * 0.02)
        self.transformer = Transformer(
            width=self.width,
            depth=depth,
            heads=default_heads(self.width) if heads is None else heads,
            **blocks,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return {stream: Need() for stream in self.streams}

    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return each stream's vectors after fusing, under the same names, and the joint ones.

        What was tapped belongs to the chained tokens, so it comes back with the joint ones alone.

        Raises:
            ValueError: parts that are not this fusion's streams, or taps without `joint`.
        """
        check_parts(self.streams, parts)
        if taps != NO_TAPS and self.joint is None:
            raise ValueError("taps need the option joint, the name under which to return them")
        entering = []
        stages = zip(self.streams, self.projections, self.types, self.marked, strict=True)
        for stream, project, mark, marked in stages:
            part = parts[stream]
            vectors = marked(project(part.vectors) + mark)
            entering.append(
                Encoded(bare(part.layout), vectors, vectors.new_zeros(part.layout.segments, 0))
            )
        chained, places = Encoded.join(entering)
        out = self.transformer(chained.vectors, chained.layout, taps=taps)
        fused = {
            stream: self._pooled(parts[stream].layout, out.vectors[place])
            for stream, place in zip(self.streams, places, strict=True)
        }
        if self.joint is not None:
            fused[self.joint] = replace(
                self._pooled(chained.layout, out.vectors),
                hidden=out.hidden,
                attention=out.attention,
            )
        return fused

    def _pooled(self, layout: Layout, vectors: Tensor) -> Encoded:
        if self.pool == "mean":
            return Encoded.mean_pooled(layout, vectors)
        filled = torch.tensor(
            [s for s, length in enumerate(layout.lengths) if length],
            dtype=torch.int64,
            device=vectors.device,
        )
        pooled = vectors.new_zeros(layout.segments, self.width)
        return Encoded(
            layout, vectors, pooled.index_copy(0, filled, vectors[layout.offsets[filled]])
        )
