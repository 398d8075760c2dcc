"""What components say about themselves, so that a config can be refused before data is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, TypeVar

from polymodal.ground.errors import nearest

Value = TypeVar("Value")


class _FromRun:
    """The mark of a constructor argument that the run supplies and a config can't set."""

    def __repr__(self) -> str:
        return "FromRun"


FROM_RUN: Final = _FromRun()
FromRun = Annotated[Value, FROM_RUN]
"""`spec: FromRun[TokenSpec]`: given by the run, not an option.

The run offers, by argument name: to an encoder `spec` (TokenSpec of its streams); to an
objective, fusion, method or evaluation `info` (Mapping[str, StreamInfo]); to a tokenizer and an
encoder `context` (Mapping[str, object], what the data sources expose beside samples).
"""


@dataclass(frozen=True)
class Names:
    """The mark of an option whose value names something outside the component.

    pydantic is handed, by kind, functions that return what is wrong with a name; a kind without
    one is not checked.
    """

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic check the name once its type is right."""
        from pydantic_core import core_schema

        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str, info: Any) -> str:
        refuse = (info.context or {}).get(self.kind)
        problem = refuse(value) if refuse else None
        if problem:
            raise ValueError(problem)
        return value


# `stream: StreamName`, `pairs: list[tuple[StreamName, StreamName]]`: options that name a part of
# the config. A wrong name is refused at its own line before the component is imported.
StreamName = Annotated[str, Names("stream")]
SourceName = Annotated[str, Names("source")]
ObjectiveName = Annotated[str, Names("objective")]
ModuleName = Annotated[str, Names("module")]
FieldName = Annotated[str, Names("field")]
"""A field of the source that the same component names; of any source if it names none."""
FilePath = Annotated[str, Names("file")]
"""A file that must exist when a run starts, or a glob that must match one."""
FolderPath = Annotated[str, Names("folder")]


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
        if self.extent is not None and len(self.extent) != self.axes:
            raise ValueError(
                f"extent must have a bound for each of the {self.axes} axes, got {self.extent}"
            )

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


@dataclass(frozen=True)
class StreamInfo:
    """What an objective may know about a stream before data is read."""

    spec: TokenSpec
    width: int  # of the encoder's vectors
    causal: bool = False  # whether the encoder sees earlier tokens alone
    table: bool = True  # whether it can score ids by its own table (`Encoder.unembed`)


@dataclass(frozen=True)
class Need:
    """What an objective, module or evaluation asks of one stream."""

    ids: bool = False
    values: bool = False
    edges: bool = False
    special: tuple[str, ...] = ()  # roles that must have an id, such as "mask"
    channels: tuple[str, ...] = ()
    axes: int | None = None
    bounded: bool = False  # spec.extent must be known
    causal: bool = False  # the encoder must see earlier tokens alone
    table: bool = False  # the encoder must score ids by its own table, for a tied head

    def unmet(self, info: StreamInfo) -> str | None:
        """Return why a stream will not do, or None if it will."""
        spec = info.spec
        if self.ids and not spec.vocabulary:
            return "needs tokens with ids, but its tokens are values"
        if self.values and not spec.features:
            return "needs tokens with values, but its tokens are ids"
        if self.edges and not spec.edges:
            return "needs edges between tokens, but its tokenizer makes none"
        for role in self.special:
            if role not in spec.special:
                return f"needs a special token {role!r}, but its tokenizer has none"
        for channel in self.channels:
            if channel not in spec.channels and channel not in spec.structure:
                return f"needs the channel {channel!r}, but its tokenizer has none"
        if self.axes is not None and self.axes != spec.axes:
            return f"needs positions with {self.axes} axes, but its tokenizer makes {spec.axes}"
        if self.bounded and spec.extent is None:
            return "needs positions with a known bound, but its tokenizer sets none"
        if self.table and not info.table:
            return "needs a table of ids for a tied head, but its encoder has none: set head: own"
        if self.causal and not info.causal:
            return "needs a causal encoder, but its encoder lets tokens see later ones: set causal"
        return None

    def check(self, info: Mapping[str, StreamInfo], stream: str) -> None:
        """Refuse a stream that does not exist or will not do.

        Raises:
            ValueError: why, and which streams would do.
        """
        if stream not in info:
            raise ValueError(f"no stream is called {stream!r}.{nearest(stream, info)}")
        unmet = self.unmet(info[stream])
        if unmet:
            fits = [name for name, other in info.items() if self.unmet(other) is None]
            hint = (
                f"Streams that would do: {', '.join(fits)}"
                if fits
                else "No stream of this config does"
            )
            raise ValueError(f"stream {stream!r} {unmet}. {hint}.")
