"""Learning the vocabularies that a run's tokenizers still lack."""

from collections.abc import Iterator
from typing import Any

from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import DataError, PolymodalError, UnreadableError, foreign
from polymodal.runs.build import Builder

_ROWS_AT_ONCE = 256


def fit_tokenizers(builder: Builder) -> None:
    """Fit each tokenizer that needs it on the training rows of all streams that use it.

    Raises:
        DataError: no row has what a tokenizer should learn from.
    """
    config = builder.config
    for name, tokenizer in builder.tokenizers.items():
        if tokenizer.fitted:
            continue
        streams = [r for s, r in builder.readings.items() if config.tokenizer_of(s) == name]
        raws = _raws(list(builder.sources.values()), streams, config.data.fit_samples)
        try:
            tokenizer.fit(raws)
        except PolymodalError:
            raise
        except Exception as error:
            raise DataError(
                f"tokenizer {name!r} can't learn its vocabulary: {foreign(error)}"
            ) from error
        if not tokenizer.fitted:
            fields = ", ".join(sorted({stream.field for stream in streams}))
            raise DataError(
                f"tokenizer {name!r} found nothing to learn its vocabulary from: no training row "
                f"has the field {fields}"
            )


def _raws(sources: list[SplitSource], streams: list[StreamReading], limit: int) -> Iterator[Any]:
    """Yield raw values of training rows, the same number of rows of every source at most."""
    wanted = {stream.field for stream in streams}
    sources = [source for source in sources if wanted & set(source.fields())]
    for source in sources:
        size = min(source.size("train"), max(1, limit // len(sources)))
        for start in range(0, size, _ROWS_AT_ONCE):
            rows = source.read("train", range(start, min(start + _ROWS_AT_ONCE, size)))
            for row in rows:
                for stream in streams:
                    try:
                        if not isinstance(row, UnreadableError):
                            yield from stream.raws(row, folders=source.folders())
                    except UnreadableError:
                        continue  # counted when it is trained on
