"""TokenSpec: what a stream's tokens are like, known before any data is read. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class TokenSpec:
    """What a tokenizer's tokens are like, known before any data is read.

    Exactly one of `vocabulary` (tokens have ids below it) and `features` (tokens have that many
    float values) is above zero.
    """

    vocabulary: int = 0
    features: int = 0
    axes: int = 1  # columns of Layout.positions
    extent: tuple[int, ...] | None = None  # positions on each axis stay below it; None: no bound
    max_tokens: int | None = None  # tokens of the longest segment, where there is a bound
    kinds: tuple[str, ...] = ("content",)  # names of Layout.kinds, by number
    special: Mapping[str, int] = field(default_factory=dict)  # ids by role: mask, begin, end ...
    channels: Mapping[str, int] = field(default_factory=dict)  # further ids by token, how many
    structure: tuple[str, ...] = ()  # channels that say how tokens belong together: word ...
    edges: bool = False
    edge_kinds: int = 0
    edge_features: int = 0

    def __post_init__(self) -> None:
        if (self.vocabulary > 0) == (self.features > 0):
            raise ValueError("a spec has either a vocabulary or features")

    def union(self, other: "TokenSpec") -> "TokenSpec | None":
        """Return the spec of tokens that may be of either kind, or None if they are unlike.

        They may differ in how many tokens there are and how far positions reach: large and small
        crops of an image, long and short texts.
        """
        if replace(self, extent=None, max_tokens=None) != replace(
            other, extent=None, max_tokens=None
        ):
            return None
        extent, most = None, None
        if self.extent is not None and other.extent is not None:
            extent = tuple(map(max, self.extent, other.extent))
        if self.max_tokens is not None and other.max_tokens is not None:
            most = max(self.max_tokens, other.max_tokens)
        return replace(self, extent=extent, max_tokens=most)
