"""Denoising: cut stretches out of a stream's ids and write them down again (T5; CodeReviewer)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from polymodal import (
    Frequencies,
    FromRun,
    Loss,
    Model,
    ModuleName,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
)
from polymodal_generation.cutting import cut_out, hidden_spans, hidden_units, sentinel_ids
from polymodal_generation.decoder import Decoder, decoder_of, written_loss


class Denoising(Objective):
    """Replace spans or whole units by sentinels, and let a decoder write what stood there.

    The target lists each sentinel with what it stands for, and ends with the end token (Raffel et
    al., 2020, section 3.1.4). Each of its tokens is one count; the metric is `accuracy`. Special
    tokens stay. A segment has something hidden if it has anything else. The encoder's table scores.

    Args:
        info: the streams.
        stream: whose ids are cut out and written.
        decoder: name of the module that writes.
        ratio: share of the tokens or units to hide.
        units: a channel, "line" or "word": each unit is hidden whole and has a sentinel of its own,
            and int(ratio x units) are drawn with replacement. Without it spans of tokens are
            hidden, those that touch as one.
        mean_span: tokens of a span on average, from 1 up; 1 hides each token by its own chance.
        start: role of the id the decoder starts from.
        frequencies: scores start from the logarithms of how often each id was a target so far, so
            that the vectors need not learn that first (see `polymodal.frequencies`).

    Raises:
        ValueError: a share out of range, a stream without sentinels, end or units, an encoder
            without a table.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        decoder: ModuleName,
        ratio: float = 0.15,
        units: str | None = None,
        mean_span: float = 3.0,
        start: str = "begin",
        frequencies: bool = False,
    ):
        super().__init__()
        self.need = Need(
            ids=True, table=True, special=("sentinel_0", "end", start), axes=1,
            channels=() if units is None else (units,),
        )  # fmt: skip
        self.need.check(info, stream)
        if not 0 < ratio < 1:
            raise ValueError(f"ratio must lie between 0 and 1, got {ratio}")
        if mean_span < 1:
            raise ValueError(f"mean_span must be 1 or more, got {mean_span}")
        self.stream = stream
        self.decoder = decoder
        self.ratio = ratio
        self.units = units
        self.mean_span = mean_span
        spec = info[stream].spec
        self.frequencies = Frequencies(spec.vocabulary) if frequencies else None
        self.start, self.end = spec.special[start], spec.special["end"]
        self.special_kind = spec.kinds.index("special") if "special" in spec.kinds else None
        self.special: Tensor
        self.sentinels: Tensor
        ids = torch.tensor(sorted(set(spec.special.values())))
        self.register_buffer("special", ids, persistent=False)
        self.register_buffer(
            "sentinels", torch.tensor(sentinel_ids(spec.special)), persistent=False
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with ids, sentinels and a table."""
        return {self.stream: self.need}

    def uses(self) -> tuple[str, ...]:
        """Return the decoder."""
        return (self.decoder,)

    def attach(self, model: Model) -> None:
        """Refuse a module that is no decoder of the stream."""
        decoder_of(model, self.decoder, read=self.stream, written=self.stream)

    def cut(self, step: Step) -> tuple[Tokens, Tokens]:
        """Return the stream with stretches cut out, and what is to be written."""
        tokens = step.tokens(self.stream)
        layout = tokens.layout
        assert tokens.ids is not None
        allowed = ~torch.isin(tokens.ids, self.special)
        noise = step.uniform("generation.denoising/place", tokens)
        units = None
        if self.units is None:
            hidden = hidden_spans(
                noise, step.uniform("generation.denoising/length", tokens), layout,
                allowed=allowed, ratio=self.ratio, mean=self.mean_span,
            )  # fmt: skip
        else:
            # A batch without tokens may lack the channel.
            units = layout.channels.get(self.units, layout.within)
            hidden = hidden_units(noise, units, layout, allowed=allowed, ratio=self.ratio)
        if layout.owner is not None:  # each of a sample's texts is denoised by itself
            tokens = tokens.select(range(layout.segments))
        return cut_out(
            tokens, hidden,
            sentinels=self.sentinels, end=self.end, units=units, special_kind=self.special_kind,
        )  # fmt: skip

    def forward(self, step: Step) -> Loss:
        """Return the loss over what was cut out."""
        source, target = self.cut(step)
        read = {self.stream: step.encode_tokens(self.stream, source)}
        decoder = step.module(self.decoder)
        assert isinstance(decoder, Decoder)
        return written_loss(
            step, decoder, target, read,
            stream=self.stream, start=self.start, frequencies=self.frequencies,
        )  # fmt: skip

    def after_update(self, step: Step) -> None:
        """Count what was written."""
        if self.frequencies:
            self.frequencies.update()

    def count(self, step: Step) -> int:
        """Return how many tokens are to be written."""
        return self.cut(step)[1].layout.tokens
