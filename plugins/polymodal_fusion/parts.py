"""What fusions and the objectives that use them share: parts by sample, checked calls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from polymodal import Encoded, Fusion, Layout, StreamInfo, nearest


def check_fusion(fusion: nn.Module, streams: Sequence[str], *, width: int) -> None:
    """Refuse a fusion that reads other streams, or whose vectors have another width.

    Raises:
        ValueError: which streams it reads; what to set `fusion_width` to.
    """
    reads = list(fusion.needs()) if isinstance(fusion, Fusion) else []
    if reads and set(reads) != set(streams):
        raise ValueError(
            f"the fusion reads the streams {sorted(reads)}, but is given {sorted(streams)}: "
            "make them the same"
        )
    found = getattr(fusion, "width", None)
    if found != width:
        raise ValueError(
            f"the fusion's vectors have width {found}, but {width} was expected: "
            f"set fusion_width: {found}"
        )


def fuse(fusion: nn.Module, parts: Mapping[str, Encoded], *, width: int) -> Mapping[str, Encoded]:
    """Return the fused parts; those whose encoder merged tokens keep the map back.

    Raises:
        ValueError: the fusion returns vectors of another width, or lacks one of the streams.
    """
    check_fusion(fusion, list(parts), width=width)
    fused: Mapping[str, Encoded] = fusion(parts)
    missing = sorted(set(parts) - set(fused))
    if missing:
        raise ValueError(f"the fusion does not read {missing}: add them to its streams")
    return {
        name: each if name not in parts else replace(each, source=parts[name].source)
        for name, each in fused.items()
    }


def check_streams(
    info: Mapping[str, StreamInfo], streams: Sequence[str], *, least: Literal[1, 2] = 2
) -> None:
    """Refuse a fusion over unknown, repeated or too few streams.

    Raises:
        ValueError: which, and what is known.
    """
    for name in streams:
        if name not in info:
            raise ValueError(f"streams: no stream is called {name!r}.{nearest(name, info)}")
    if len(set(streams)) != len(streams) or len(streams) < least:
        count = {1: "one", 2: "two"}[least]
        raise ValueError(f"streams must be {count} or more different ones, got {list(streams)}")


def check_parts(streams: Sequence[str], parts: Mapping[str, Encoded]) -> None:
    """Refuse parts that are not the streams a fusion was built for.

    Raises:
        ValueError: which streams were expected and which came.
    """
    if set(parts) != set(streams):
        raise ValueError(f"this fusion reads {list(streams)}, but was given {sorted(parts)}")


def default_heads(width: int) -> int:
    """Return the number of heads of about 32 to 64 channels that divides the width."""
    for size in (64, 32, 48, 40, 24, 16):
        if width % size == 0 and width // size >= 2:
            return width // size
    return 1


def bare(layout: Layout) -> Layout:
    """Return the layout without edges: fusing lets every token see every other.

    Channels of several columns (soft labels) stay behind too: chaining would widen them to all
    tokens.
    """
    channels = {name: rows for name, rows in layout.channels.items() if rows.dim() == 1}
    return replace(layout, edges=None, edge_kinds=None, edge_values=None, channels=channels)
