"""A masked stream in context: alone through its encoder, or with other streams through a fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from polymodal import (
    Candidates,
    Encoded,
    Hidden,
    Hiding,
    Model,
    Need,
    Step,
    StreamInfo,
    Tokens,
    TokenSpec,
    hideable,
    nearest,
)
from polymodal_fusion import check_fusion, fuse


@dataclass(frozen=True)
class Context:
    """Where the prediction may look: the stream itself, and the streams given, whole or in part.

    Raises:
        ValueError: a fusion without given streams or the reverse, or an unknown stream.
    """

    objective: str  # whose noise it draws
    stream: str
    given: tuple[str, ...]
    fusion: str | None
    width: int  # of the vectors the head receives
    leave_out: float = 0.0  # share of the given streams' tokens that is hidden as well

    @classmethod
    def of(
        cls,
        info: Mapping[str, StreamInfo],
        objective: str,
        stream: str,
        given: Sequence[str],
        fusion: str | None,
        fusion_width: int | None,
        leave_out: float = 0.0,
    ) -> "Context":
        """Return the context that these options of an objective say."""
        if (fusion is None) != (not given):
            raise ValueError("fusion and given go together: name the fusion and its other streams")
        for name in (stream, *given):
            if name not in info:
                raise ValueError(f"no stream is called {name!r}.{nearest(name, info)}")
        if stream in given or len(set(given)) != len(given):
            raise ValueError(f"given must be streams other than {stream!r}, got {list(given)}")
        if not 0 <= leave_out < 1 or (leave_out and not given):
            raise ValueError(
                f"leave_out must be at least 0 and below 1, and needs given; got {leave_out}"
            )
        width = info[stream].width
        if fusion is not None and fusion_width is not None:
            width = fusion_width
        return cls(objective, stream, tuple(given), fusion, width, leave_out)

    def needs(self, need: Need) -> Mapping[str, Need]:
        """Return what the masked stream needs, and the given ones."""
        return {self.stream: need, **{name: Need() for name in self.given}}

    def check(self, model: Model) -> None:
        """Refuse a fusion that does not fit.

        Raises:
            ValueError: it reads other streams, or its vectors have another width.
        """
        if self.fusion is not None:
            check_fusion(model.module(self.fusion), (self.stream, *self.given), width=self.width)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return () if self.fusion is None else (self.fusion,)

    def samples(self, step: Step) -> list[int] | None:
        """Return the samples with the stream and all that is given; None for every sample."""
        if self.fusion is None:
            return None
        rows = step.rows_with(self.stream, *self.given)
        return None if len(rows) == step.batch.samples else rows

    def tokens(self, step: Step, samples: list[int] | None) -> Tokens:
        """Return the stream's tokens of these samples."""
        tokens = step.tokens(self.stream)
        return tokens if samples is None else tokens.take(samples)

    def noise(self, step: Step, name: str, samples: list[int] | None) -> Float[Tensor, " token"]:
        """Return noise for the tokens of these samples, the same whichever others there are."""
        tokens = step.tokens(self.stream)
        noise = step.uniform(f"{self.objective}/{self.stream}/{name}", tokens)
        return noise if samples is None else noise[tokens.layout.taken(samples)[1]]

    def candidates(
        self,
        step: Step,
        samples: list[int] | None,
        *,
        spec: TokenSpec,
        kinds: list[str] | None = None,
        leave: int = 0,
    ) -> Candidates:
        """Return what may be hidden of the stream in these samples."""
        tokens = self.tokens(step, samples)
        return Candidates(
            step,
            self.stream,
            tokens,
            spec,
            hideable(tokens, spec, kinds),
            lambda name: self.noise(step, name, samples),
            range(step.batch.samples) if samples is None else samples,
            leave,
        )

    def hidden(
        self,
        step: Step,
        hide: Hiding,
        samples: list[int] | None,
        *,
        spec: TokenSpec,
        leave: int = 0,
    ) -> Hidden:
        """Return what a part hides of the stream in these samples."""
        return hide.choose(self.candidates(step, samples, spec=spec, leave=leave))

    def encode(self, step: Step, tokens: Tokens, samples: list[int] | None) -> Encoded:
        """Return the corrupted stream's vectors, fused with what is given."""
        encoded = step.encode_tokens(self.stream, tokens)
        if self.fusion is None:
            return encoded
        parts = {self.stream: encoded}
        for name in self.given:
            whole = self._given(step, name)
            parts[name] = whole if samples is None else whole.take(samples)
        return fuse(step.module(self.fusion), parts, width=self.width)[self.stream]

    def _given(self, step: Step, name: str) -> Encoded:
        if not self.leave_out:
            return step.encode(name)
        tokens = step.tokens(name)
        noise = step.uniform(f"{self.objective}/{self.stream}/{name}", tokens)
        return step.encode_tokens(name, tokens.keep(noise >= self.leave_out))


def at(encoded: Encoded, rows: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
    """Return the vectors of these tokens, also after an encoder that merged tokens."""
    # Not by brackets, whose gradient adds up in bfloat16 on CPU: a merged row serves many tokens.
    return encoded.vectors.index_select(0, rows if encoded.source is None else encoded.source[rows])
