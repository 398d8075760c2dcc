"""What contrastive objectives share: heads, which streams are compared, and both sides' rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import Need, Step, StreamInfo, Tokens, hash_words, mix, nearest, rank
from polymodal_contrastive.losses import single

HeadKind = Literal["linear", "mlp", "none"]


@dataclass(frozen=True, eq=False)
class Sides:
    """The rows of two streams that one loss compares: this rank's, and the partners of all ranks.

    Row i's partner is candidate `first + i`. Rows with one key are no negatives of each other.
    """

    anchors: Float[Tensor, "row dim"]
    candidates: Float[Tensor, "all_rows dim"]
    first: Int[Tensor, ""]
    anchor_keys: Int[Tensor, " row"] | None
    candidate_keys: Int[Tensor, " all_rows"] | None


def check_streams(info: Mapping[str, StreamInfo], streams: Sequence[str], *, least: int) -> None:
    """Refuse stream names that are unknown, repeated or too few.

    Raises:
        ValueError: which, and what is known.
    """
    for name in streams:
        if name not in info:
            raise ValueError(f"streams: no stream is called {name!r}.{nearest(name, info)}")
    if len(set(streams)) != len(streams) or len(streams) < least:
        raise ValueError(f"streams must be {least} or more different ones, got {list(streams)}")


def needed(
    info: Mapping[str, StreamInfo], streams: Sequence[str], same: str | None
) -> dict[str, Need]:
    """Return what is asked of the streams compared, and of the one `same` names, if any."""
    named = [*streams, *([same] if same in info else [])]
    return {stream: Need() for stream in named if stream is not None}


def fields_read(info: Mapping[str, StreamInfo], same: str | None) -> tuple[str, ...]:
    """Return the field that `same` names; none if it is a stream."""
    return () if same is None or same in info else (same,)


def compared(
    streams: Sequence[str], anchor: str | None, pairs: Sequence[Sequence[str]] | None
) -> list[tuple[str, str]]:
    """Return the pairs of streams to compare: those named, those with the anchor, or all.

    Raises:
        ValueError: both are given, or one names a stream that is not among `streams`.
    """
    if anchor is not None and pairs is not None:
        raise ValueError("give anchor or pairs, not both")
    if pairs is not None:
        chosen: list[tuple[str, str]] = []
        for pair in pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"pairs: each must name two different streams, got {list(pair)}")
            chosen.append((pair[0], pair[1]))
        used = {name for pair in chosen for name in pair}
        if used != set(streams):
            raise ValueError(f"pairs use {sorted(used)}, but streams are {sorted(streams)}")
        return chosen
    if anchor is None:
        return list(combinations(streams, 2))
    if anchor not in streams:
        raise ValueError(f"anchor must be one of streams {list(streams)}, got {anchor!r}")
    return [(anchor, other) for other in streams if other != anchor]


class Projections(nn.Module):
    """A head for each stream: pooled rows to normalised vectors of one size.

    Raises:
        ValueError: without heads the encoders' widths must be equal.
    """

    def __init__(
        self,
        info: Mapping[str, StreamInfo],
        streams: Sequence[str],
        *,
        dim: int,
        heads: HeadKind,
    ):
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, got {dim}")
        self.streams = tuple(streams)
        widths = [info[name].width for name in streams]
        if heads == "none" and len(set(widths)) > 1:
            raise ValueError(
                f"heads: none needs streams of one width, got "
                f"{dict(zip(streams, widths, strict=True))}; use linear or mlp"
            )
        # A list, because a ModuleDict refuses some names that a stream may have.
        self.heads = nn.ModuleList(_head(width, dim, heads) for width in widths)

    def forward(self, stream: str, pooled: Float[Tensor, "row width"]) -> Float[Tensor, "row dim"]:
        """Return the stream's rows projected and normalised."""
        projected = self.heads[self.streams.index(stream)](pooled)
        return F.normalize(single(projected), dim=1)


def _head(width: int, dim: int, kind: HeadKind) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    last = nn.Linear(width, dim, bias=False)
    nn.init.normal_(last.weight, std=width**-0.5)
    if kind == "linear":
        return last
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), last)


def pair_vectors(
    step: Step, pairs: Sequence[tuple[str, str]], projections: Projections, same: str | None = None
) -> tuple[Tensor, ...]:
    """Return the rows of the samples that have both streams: three tensors a pair.

    They are both streams' vectors, and the samples' keys: of no columns unless `same` is given.
    """
    keys = None if same is None else sample_keys(step, same)
    found: list[Tensor] = []
    for pair in pairs:
        encoded = [step.encode(stream) for stream in pair]
        device = encoded[0].pooled.device
        index = torch.tensor(step.rows_with(*pair), dtype=torch.int64, device=device)
        for stream, each in zip(pair, encoded, strict=True):
            found.append(projections(stream, each.pooled_rows()[index]))
        found.append(index.new_zeros(len(index), 0) if keys is None else keys[index, None])
    return tuple(found)


def by_pair(vectors: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield both streams' vectors and the keys, if any, of every pair of `pair_vectors`."""
    for start in range(0, len(vectors), 3):
        one, other, keys = vectors[start : start + 3]
        yield one, other, keys[:, 0] if keys.shape[1] else None


def sides(step: Step, one: Tensor, other: Tensor, keys: Tensor | None) -> Sides:
    """Return the first stream's rows from here and the second's from all ranks.

    One collective call carries the vectors, the rank each row came from, and its key.
    """
    columns = other if keys is None else torch.cat([other, _split(keys).to(other.dtype)], dim=1)
    everywhere, first = gathered(step, columns)
    dim = other.shape[1]
    found = None if keys is None else _united(everywhere[:, dim:].detach())
    return Sides(one, everywhere[:, :dim], first, keys, found)


def gathered(
    step: Step, rows: Float[Tensor, "row width"]
) -> tuple[Float[Tensor, "all_rows width"], Int[Tensor, ""]]:
    """Return the rows of all ranks by one collective call, and where this rank's begin."""
    mine = rank()
    everywhere = step.gather(torch.cat([rows, rows.new_full((len(rows), 1), mine)], dim=1))
    return everywhere[:, :-1], (everywhere[:, -1].detach() < mine).sum()


def sample_keys(step: Step, same: str) -> Int[Tensor, " sample"]:
    """Return a number for each sample, equal where `same` is equal, and its own where it lacks.

    `same` names a stream of the batch, whose tokens are compared, or a field of the samples.

    Raises:
        ValueError: no stream or field has this name.
    """
    alone = mix(step.batch.keys ^ hash_words("alone")) & _ALL  # a sample's own number
    if same in step.batch.streams:
        tokens = step.tokens(same)
        found, present = content_hash(tokens), torch.tensor(tokens.layout.present)
    elif same in step.batch.fields:
        values = step.labels(same)
        found = torch.tensor([hash_words(same, value) for value in values], dtype=torch.int64)
        present = torch.tensor([value is not None for value in values])
    else:
        raise ValueError(
            f"same: {same!r} is neither a stream nor a field of the batch; streams are "
            f"{sorted(step.batch.streams)}, fields {sorted(step.batch.fields)}"
        )
    return torch.where(present.to(alone.device).bool(), found.to(alone.device) & _ALL, alone)


def content_hash(tokens: Tokens) -> Int[Tensor, " sample"]:
    """Return a hash of each sample's ids or values in their order; 0 without tokens."""
    layout = tokens.layout
    if tokens.ids is not None:
        content = mix(tokens.ids)
    else:
        bits = tokens.rows.float().contiguous().view(torch.int32).to(torch.int64)
        column = torch.arange(bits.shape[1], device=bits.device)
        content = mix(bits + mix(column + 1)).sum(dim=1)
    placed = mix(content + mix(layout.within + 1))
    return placed.new_zeros(layout.samples).index_add(0, layout.sample, placed)


_BITS = 21  # a float32 holds whole numbers of up to 24 bits exactly
_ALL = (1 << 3 * _BITS) - 1


def _split(keys: Tensor) -> Tensor:
    """Write 63-bit numbers as three floats, so that they can travel with the vectors."""
    low = (1 << _BITS) - 1
    return torch.stack([keys >> 2 * _BITS & low, keys >> _BITS & low, keys & low], dim=1)


def _united(columns: Tensor) -> Tensor:
    parts = columns.to(torch.int64)
    return (parts[:, 0] << 2 * _BITS) + (parts[:, 1] << _BITS) + parts[:, 2]


def log_scale(temperature: float, *, learned: bool) -> nn.Parameter:
    """Return the log of 1 / temperature as a parameter of one element.

    Raises:
        ValueError: a temperature outside the scale's bounds of 1 and 100.
    """
    if not 0.01 <= temperature <= 1:
        raise ValueError(f"temperature must lie between 0.01 and 1, got {temperature}")
    return nn.Parameter(torch.tensor([-math.log(temperature)]), requires_grad=learned)
