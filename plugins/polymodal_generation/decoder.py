"""A decoder: writes the tokens of one stream while it reads others (Vaswani et al., 2017)."""

from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    BlockOptions,
    DataError,
    Encoded,
    Frequencies,
    FromRun,
    Fusion,
    Layout,
    Loss,
    Model,
    Need,
    Step,
    StreamInfo,
    StreamName,
    Taps,
    Tokens,
    Transformer,
    nearest,
)
from polymodal_fusion import check_parts, check_streams, default_heads


class Decoder(Fusion):
    """Blocks in which a stream's tokens see those before them, and read other streams whole.

    What it writes enters as the stem of the stream's encoder gives it and is scored by the same
    encoder's table, so that an encoder and a decoder share one vocabulary, as in T5. Any of its
    streams can be read, whatever its modality; those as wide as the decoder can be written. One
    decoder serves all objectives that name it. As a fusion, its last stream reads the others.

    Args:
        info: the streams.
        streams: that it reads and writes.
        width: of its vectors; the last stream's unless given.
        depth: how many blocks.
        heads: of attention; chosen by the width unless given.
        rotary: turn queries and keys of self-attention by position, beside what the stem adds.
        blocks: how they are made; see `BlockOptions`.

    Raises:
        ValueError: unknown or repeated streams, or a width that heads don't divide.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        width: int | None = None,
        depth: int = 2,
        heads: int | None = None,
        rotary: bool = True,
        **blocks: Unpack[BlockOptions],
    ):
        super().__init__()
        check_streams(info, streams, least=1)
        self.streams = tuple(streams)
        self.widths = {stream: info[stream].width for stream in streams}
        self.width = self.widths[streams[-1]] if width is None else width
        self.entries = nn.ModuleDict(
            {s: nn.Linear(w, self.width) for s, w in self.widths.items() if w != self.width}
        )
        self.transformer = Transformer(
            width=self.width,
            depth=depth,
            heads=default_heads(self.width) if heads is None else heads,
            rotary_axes=1 if rotary else 0,
            causal=True,
            cross_width=self.width,
            **blocks,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams; any tokens can be read."""
        return {stream: Need() for stream in self.streams}

    def write(self, written: Encoded, read: Mapping[str, Encoded]) -> Float[Tensor, "token width"]:
        """Return the vectors that predict what follows each token, for the table of its encoder.

        Args:
            written: what the stem makes of the tokens so far, a segment a sample.
            read: encoded streams of the same samples, by name; all their segments are read.

        Raises:
            DataError: samples with several texts to write.
        """
        if written.layout.owner is not None:
            raise DataError(
                "a decoder writes one text a sample, but samples have several here: set many to "
                "false for the stream that is written"
            )
        entered = [self._entered(stream, encoded) for stream, encoded in read.items()]
        memory = entered[0]
        if len(entered) > 1 or memory.layout.owner is not None:
            memory = Encoded.join(entered)[0]
        return self.transformer(written.vectors, written.layout, memory=memory).vectors

    def _entered(self, stream: str, encoded: Encoded) -> Encoded:
        if stream not in self.entries:
            return encoded
        return Encoded.mean_pooled(encoded.layout, self.entries[stream](encoded.vectors))

    def forward(
        self, parts: Mapping[str, Encoded], *, taps: Taps = NO_TAPS
    ) -> Mapping[str, Encoded]:
        """Return the streams, the last one's vectors having read the others'.

        Raises:
            ValueError: parts that are not this decoder's streams, or taps.
        """
        check_parts(self.streams, parts)
        if taps != NO_TAPS:
            raise ValueError("generation.decoder has no taps")
        *read, last = self.streams
        entered = {stream: self._entered(stream, parts[stream]) for stream in self.streams}
        vectors = self.write(entered[last], {s: parts[s] for s in read or [last]})
        return {**entered, last: Encoded.mean_pooled(parts[last].layout, vectors)}

    def check(self, *, read: str, written: str) -> None:
        """Refuse streams that this decoder can't read or write.

        Raises:
            ValueError: which, and what to change.
        """
        for stream in (read, written):
            if stream not in self.streams:
                raise ValueError(
                    f"the decoder has no stream {stream!r}.{nearest(stream, self.streams)}"
                )
        if self.widths[written] != self.width:
            raise ValueError(
                f"the decoder's width is {self.width}, but its table is that of {written!r}, of "
                f"width {self.widths[written]}: make them the same"
            )


def decoder_of(model: Model, name: str, *, read: str, written: str) -> Decoder:
    """Return a model's decoder for these streams.

    Raises:
        ValueError: the module is no decoder, or not one for these streams.
    """
    module = model.module(name)
    if not isinstance(module, Decoder):
        raise ValueError(f"decoder: the module {name!r} must be a generation.decoder")
    module.check(read=read, written=written)
    return module


def shifted(tokens: Tokens, start: int) -> Tokens:
    """Return the ids that predict these: `start`, then each segment's ids but its last."""
    layout = tokens.layout
    assert tokens.ids is not None
    first = layout.within == 0
    ids = torch.where(first, start, tokens.ids.roll(1))
    # Kinds stay out: of what is yet to be written they are not known.
    plain = Layout.of(layout.lengths, owner=layout.owner, samples=layout.samples)
    return Tokens(plain.to(layout.device), ids=ids)


def written_loss(
    step: Step,
    decoder: Decoder,
    target: Tokens,
    read: Mapping[str, Encoded],
    *,
    stream: str,
    start: int,
    frequencies: Frequencies | None = None,
) -> Loss:
    """Return the cross-entropy of a target's ids, each given those before it; each is one count.

    Samples without a target cost nothing. The metric is `accuracy`, of single ids.
    """
    encoder = step.encoder(stream)
    assert target.ids is not None
    vectors = decoder.write(encoder.embed(shifted(target, start)), read)
    scores = encoder.unembed(vectors)
    assert scores is not None  # `needs` asks for a table
    scores = scores.float()
    if frequencies:
        scores = scores + frequencies()
        frequencies.note(target.ids)
    total = F.cross_entropy(scores, target.ids, reduction="sum")
    right = (scores.argmax(dim=1) == target.ids).sum() if len(scores) else 0
    return Loss(total, len(scores), {"accuracy": (right, len(scores))})
