"""Cross-attention fusion: each stream keeps its own tokens and attends to the others'."""

from collections.abc import Mapping
from typing import Literal, Unpack

from torch import nn

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
)
from polymodal_fusion.parts import bare, check_parts, check_streams, default_heads


class CrossAttention(Fusion):
    """Let each stream's tokens attend to themselves and across to the other streams.

    Each stream is projected and normalised, keeps its own layout, and comes back pooled by its
    mean. With three streams or more, what one attends to is the others chained.

    Args:
        info: the streams.
        streams: two or more to fuse.
        reading: those that attend, all unless given; the others come back projected.
        memory: what a stream sees of the others: "updated", their tokens after as many blocks as
            its own (co-attention, LXMERT, Tan and Bansal, 2019), or "fixed", their tokens as they
            came in (CroCo, Weinzaepfel et al., 2022).
        width: of the fused vectors; the first stream's unless given.
        depth: how many blocks for each reading stream.
        heads: of attention; chosen by the width unless given.
        blocks: how they are made; see `BlockOptions`.

    Raises:
        ValueError: fewer than two streams, unknown ones, or `reading` others.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        reading: list[str] | None = None,
        memory: Literal["updated", "fixed"] = "updated",
        width: int | None = None,
        depth: int = 2,
        heads: int | None = None,
        **blocks: Unpack[BlockOptions],
    ):
        super().__init__()
        check_streams(info, streams)
        reading = list(streams) if reading is None else reading
        if not reading or not set(reading) <= set(streams):
            raise ValueError(f"reading must be some of {list(streams)}, got {reading}")
        self.streams = tuple(streams)
        self.reading = tuple(stream for stream in streams if stream in reading)
        self.width = info[streams[0]].width if width is None else width
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(info[name].width, self.width), nn.LayerNorm(self.width))
            for name in streams
        )
        rounds, each = (depth, 1) if memory == "updated" else (1, depth)
        # Round after round, one for each reading stream.
        self.transformers = nn.ModuleList(
            Transformer(
                width=self.width,
                depth=each,
                heads=default_heads(self.width) if heads is None else heads,
                cross_width=self.width,
                **blocks,
            )
            for _ in range(rounds * len(self.reading))
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens will do."""
        return {stream: Need() for stream in self.streams}

    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return each stream's vectors after fusing, under the same names.

        Raises:
            ValueError: parts that are not this fusion's streams, or taps, which it can't give.
        """
        check_parts(self.streams, parts)
        if taps != NO_TAPS:
            raise ValueError("fusion.cross_attention returns no hidden layers or attention maps")
        now: dict[str, Encoded] = {}
        for stream, project in zip(self.streams, self.projections, strict=True):
            part = parts[stream]
            now[stream] = Encoded.mean_pooled(bare(part.layout), project(part.vectors))
        for start in range(0, len(self.transformers), len(self.reading)):
            after = dict(now)
            for number, stream in enumerate(self.reading, start):
                transformer = self.transformers[number]
                layout = now[stream].layout
                memory = self._memory(stream, now)
                out = transformer(now[stream].vectors, layout, memory=memory)
                after[stream] = Encoded.mean_pooled(layout, out.vectors)
            now = after
        return {
            stream: Encoded(parts[stream].layout, each.vectors, each.pooled)
            for stream, each in now.items()
        }

    def _memory(self, stream: str, now: Mapping[str, Encoded]) -> Encoded:
        """Chain the other streams, one segment for each segment of this one."""
        others = [now[other] for other in self.streams if other != stream]
        chained = others[0]
        if len(others) > 1 or chained.layout.owner is not None:
            chained, _ = Encoded.join(others)
        layout = now[stream].layout
        return chained if layout.owner is None else chained.select(layout.owners)
