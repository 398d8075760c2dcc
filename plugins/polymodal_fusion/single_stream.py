"""Single-stream fusion: one Transformer over the tokens of all streams, chained by sample."""

from collections.abc import Mapping

import torch
from torch import nn

from polymodal.component import FromRun, Need, StreamInfo, StreamName
from polymodal.encoder import NO_TAPS, Fusion, Taps
from polymodal.tokens import Encoded, segment_mean
from polymodal.transformer import Transformer
from polymodal_fusion.parts import bare, check_parts, check_streams, default_heads


class SingleStream(Fusion):
    """Let every token of a sample attend to the tokens of all its streams (UNITER, ViLT).

    Each stream is projected, normalised and marked with a learned vector of its own; the streams
    are chained within each sample and go through one Transformer. Every stream comes back in its
    own layout, pooled by its mean. A sample that lacks a stream is simply shorter.

    Args:
        info: the streams.
        streams: two or more to fuse.
        width: of the fused vectors; the first stream's unless given.
        depth: how many blocks.
        heads: of attention; chosen by the width unless given.
        mlp_ratio: hidden width of the blocks' perceptrons, in widths.
        dropout: in the blocks.
        drop_path: chance of leaving out the last block's branches.
        joint: a name under which the chained tokens come back too, one segment a sample.
        gradient_checkpointing: work blocks out again in the backward pass, to save memory.

    Raises:
        ValueError: fewer than two streams, unknown ones, or a `joint` name that a stream has.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        width: int | None = None,
        depth: int = 2,
        heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        joint: str | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        check_streams(info, streams)
        if joint is not None and joint in info:
            raise ValueError(f"joint: {joint!r} is the name of a stream; choose another")
        self.streams = tuple(streams)
        self.joint = joint
        self.width = info[streams[0]].width if width is None else width
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(info[name].width, self.width), nn.LayerNorm(self.width))
            for name in streams
        )
        self.types = nn.Parameter(torch.randn(len(streams), self.width) * 0.02)
        self.transformer = Transformer(
            width=self.width,
            depth=depth,
            heads=default_heads(self.width) if heads is None else heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            drop_path=drop_path,
            gradient_checkpointing=gradient_checkpointing,
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
        for place, (stream, project) in enumerate(zip(self.streams, self.projections, strict=True)):
            part = parts[stream]
            vectors = project(part.vectors) + self.types[place]
            entering.append(
                Encoded(bare(part.layout), vectors, vectors.new_zeros(part.layout.segments, 0))
            )
        chained, places = Encoded.join(entering)
        out = self.transformer(chained.vectors, chained.layout, taps=taps)
        fused = {
            stream: Encoded.mean_pooled(parts[stream].layout, out.vectors[place])
            for stream, place in zip(self.streams, places, strict=True)
        }
        if self.joint is not None:
            pooled = segment_mean(out.vectors, chained.layout)
            fused[self.joint] = Encoded(
                chained.layout, out.vectors, pooled, hidden=out.hidden, attention=out.attention
            )
        return fused
