"""What components say about themselves, so that a config can be refused before data is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from polymodal.ground.errors import nearest
from polymodal.packed.spec import TokenSpec

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
