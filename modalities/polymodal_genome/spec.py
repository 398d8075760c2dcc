"""What tokens of a genome are like, and the ids of the other strand."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from polymodal import Layout, Tokens, TokenSpec
from polymodal_genome.letters import AMBIGUOUS, BASES, reverse_complement

ROLES = ("pad", "unknown", "mask", "begin", "end")
SPECIAL_IDS = dict(zip(ROLES, range(len(ROLES)), strict=True))
FIRST = len(ROLES)
"""The id of the first base or k-mer; below it stand the special tokens."""

BASE_IDS = {letter: FIRST + number for number, letter in enumerate(BASES + AMBIGUOUS)}


@dataclass(frozen=True)
class GenomeSpec(TokenSpec):
    """A TokenSpec that also says what its ids stand for, so that strands can be turned over.

    `units` is "bases" (special tokens, then A C G T and the ambiguity codes), "kmers" (special
    tokens, then all words of `k` bases in the order of the alphabet), or "pieces", learned ones,
    whose ids have no complement.
    """

    units: Literal["bases", "kmers", "pieces"] = "pieces"
    k: int = 1


@lru_cache(maxsize=8)
def complements(units: Literal["bases", "kmers"], k: int = 1) -> Int[Tensor, " vocabulary"]:
    """Return, for each id, the id of its reverse complement; special tokens are their own."""
    if units == "bases":
        others = [BASE_IDS[reverse_complement(letter)] for letter in BASE_IDS]
        return torch.tensor([*range(FIRST), *others])
    if k > 6:  # by arithmetic: digits of base 4 in reverse, each taken from 3
        number, turned = torch.arange(4**k), torch.zeros(4**k, dtype=torch.int64)
        for _ in range(k):
            turned = turned * 4 + (3 - number % 4)
            number = number // 4
        return torch.cat([torch.arange(FIRST), turned + FIRST])
    words = ["".join(letters) for letters in product(BASES, repeat=k)]
    place = {word: number for number, word in enumerate(words)}
    return torch.tensor(
        [*range(FIRST), *(FIRST + place[reverse_complement(word)] for word in words)]
    )


def reverse_complement_ids(tokens: Tokens, spec: GenomeSpec) -> Tokens:
    """Return the tokens of the other strand, segment by segment; begin and end keep their places.

    Exact for bases, and for k-mers wherever they reach the end of the sequence: always at stride 1,
    else where the stride divides the length less k. Channels and positions turn with the tokens.

    Raises:
        ValueError: learned pieces, whose complements are no ids.
    """
    if spec.units == "pieces":
        raise ValueError("learned pieces have no complement: use genome.bases or genome.kmers")
    assert tokens.ids is not None
    layout = tokens.layout
    rows = turned(layout)
    table = complements(spec.units, spec.k).to(tokens.ids.device)
    positions = layout.positions
    if layout.tokens:
        first, last = content_ends(layout)
        ends = (positions[first] + positions[last])[layout.segment]
        moved = ends - positions[rows]
        positions = moved if layout.kinds is None else torch.where(
            (layout.kinds == 0)[:, None], moved, positions
        )  # fmt: skip
    channels = {name: channel[rows] for name, channel in layout.channels.items()}
    new = replace(layout, positions=positions, channels=channels)
    new.__dict__["owners"] = layout.owners  # known on the host: never fetch it again
    return Tokens(new, ids=table[tokens.ids[rows]])


def content_ends(layout: Layout) -> tuple[Int[Tensor, " segment"], Int[Tensor, " segment"]]:
    """Return the rows of each segment's first and last token that is not its begin or end.

    Meant for layouts with tokens; the rows of segments without content mean nothing.
    """
    most = layout.tokens - 1
    first = layout.offsets[:-1].clamp(max=most)
    last = (layout.offsets[1:] - 1).clamp(min=0)
    if layout.kinds is not None:
        special = (layout.kinds != 0).to(torch.int64)
        first, last = first + special[first], last - special[last]
    return first.clamp(max=most), last.clamp(min=0)


def turned(layout: Layout) -> Int[Tensor, " token"]:
    """Return for each token the row of its mirror image among its segment's content."""
    rows = torch.arange(layout.tokens, device=layout.device)
    if not layout.tokens:
        return rows
    first, last = content_ends(layout)
    mirrored = (first + last)[layout.segment] - rows
    return mirrored if layout.kinds is None else torch.where(layout.kinds == 0, mirrored, rows)
