"""Sequence to sequence: read one stream, write another (Sutskever et al., 2014)."""

from collections.abc import Mapping

import torch

from polymodal import (
    Frequencies,
    FromRun,
    Layout,
    Loss,
    Model,
    ModuleName,
    Need,
    Predicted,
    Predicting,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
)
from polymodal_generation.decoder import Decoder, decoder_of, written_loss
from polymodal_generation.search import beam_search
from polymodal_generation.shift import followed, followed_count


class SequenceToSequence(Predicting):
    """Predict each id of a target stream from those before it and from a source stream.

    The source may be of any modality: a diff, an image. The target's tokenizer must put begin and
    end around each segment; the decoder starts from the id of the role `start` instead of begin,
    and every id after it is one count, the end included. Samples that lack either stream cost
    nothing. The metric is `accuracy`, of single ids. It predicts texts, by beam search.

    Args:
        info: the streams.
        source: stream that is read.
        target: stream that is written; its encoder's table scores.
        decoder: name of the module that writes.
        start: role of the id the decoder starts from; it can tell one task from another.
        beams: of the search.
        max_tokens: of a text that is written; the target's bound unless given.
        length_penalty: exponent of the length in the search; see `beam_search`.
        frequencies: scores start from the logarithms of how often each id was a target so far, so
            that the vectors need not learn that first (see `polymodal.frequencies`).

    Raises:
        ValueError: a target without ids, end, start or a bound, or an encoder without a table.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        source: StreamName,
        target: StreamName,
        decoder: ModuleName,
        start: str = "begin",
        beams: int = 4,
        max_tokens: int | None = None,
        length_penalty: float = 1.0,
        frequencies: bool = False,
    ):
        super().__init__()
        Need().check(info, source)
        self.need = Need(ids=True, table=True, special=("begin", "end", start), axes=1)
        self.need.check(info, target)
        bound = info[target].spec.max_tokens if max_tokens is None else max_tokens
        if bound is None or bound < 1 or beams < 1:
            raise ValueError(f"max_tokens and beams must be 1 or more, got {bound} and {beams}")
        self.source = source
        self.target = target
        self.decoder = decoder
        self.beams = beams
        self.max_tokens = bound
        self.length_penalty = length_penalty
        special = info[target].spec.special
        self.frequencies = Frequencies(info[target].spec.vocabulary) if frequencies else None
        self.start, self.end = special[start], special["end"]

    def needs(self) -> Mapping[str, Need]:
        """Return both streams."""
        return {self.source: Need(), self.target: self.need}

    def uses(self) -> tuple[str, ...]:
        """Return the decoder."""
        return (self.decoder,)

    def attach(self, model: Model) -> None:
        """Refuse a module that is no decoder of the streams."""
        decoder_of(model, self.decoder, read=self.source, written=self.target)

    def forward(self, step: Step) -> Loss:
        """Return the loss over all ids of the target but each first."""
        rows = step.rows_with(self.source, self.target)
        tokens = step.tokens(self.target).take(rows)
        read = step.encode(self.source).take(rows)
        after = followed(tokens.layout) + 1
        target = tokens.keep(after, [max(length - 1, 0) for length in tokens.layout.lengths])
        decoder = step.module(self.decoder)
        assert isinstance(decoder, Decoder)
        return written_loss(
            step, decoder, target, {self.source: read},
            stream=self.target, start=self.start, frequencies=self.frequencies,
        )  # fmt: skip

    def after_update(self, step: Step) -> None:
        """Count what was written."""
        if self.frequencies:
            self.frequencies.update()

    def count(self, step: Step) -> int:
        """Return how many ids will be scored."""
        rows = step.rows_with(self.source, self.target)
        return followed_count(step.tokens(self.target).take(rows).layout)

    def predictions(self, step: Step) -> Predicted:
        """Return what beam search writes for each sample that has the source."""
        rows = step.rows_with(self.source)
        encoder, decoder = step.encoder(self.target), step.module(self.decoder)
        assert isinstance(decoder, Decoder)
        repeated = [row for row in rows for _ in range(self.beams)]
        read = {self.source: step.encode(self.source).take(repeated)}

        def score(prefixes: Tokens) -> torch.Tensor:
            vectors = decoder.write(encoder.embed(prefixes), read)
            scores = encoder.unembed(vectors[prefixes.layout.offsets[1:] - 1])
            assert scores is not None
            if self.frequencies:
                scores = scores + self.frequencies()
            return scores.float().log_softmax(dim=1)

        texts = beam_search(
            score, samples=len(rows), start=self.start, end=self.end, beams=self.beams,
            max_tokens=self.max_tokens, length_penalty=self.length_penalty,
            device=step.tokens(self.source).layout.device,
        )  # fmt: skip
        ids = torch.tensor([i for text in texts for i in text], dtype=torch.int64)
        written = Tokens(Layout.of([len(text) for text in texts]), ids=ids)
        return Predicted(rows, written, stream=self.target)
