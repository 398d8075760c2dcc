"""The frozen model as evaluations see it: vectors of splits and of raw values."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from polymodal.data.loader import PackedDataset, in_order
from polymodal.data.reading import StreamReading
from polymodal.data.sampling import Refs
from polymodal.data.splits import SplitSource
from polymodal.data.workers import load_batches
from polymodal.ground.errors import (
    DataError,
    PolymodalError,
    UnreadableError,
    foreign,
    nearest,
    unreadable,
)
from polymodal.interfaces.capabilities import Predicting
from polymodal.interfaces.evaluation import Each, Evaluation, Features, Predictions, Score, Split
from polymodal.interfaces.step import Step
from polymodal.model.model import PretrainingModel
from polymodal.packed.batch import Batch
from polymodal.packed.tokens import Tokens


class ModelProbe:
    """Encodes splits and raw values with a model in evaluation mode; implements `Probe`.

    Args:
        model: on `device`.
        readings: how each stream is read.
        sources: by name.
        device: where to encode.
        batch_size: samples at a time; no result depends on it beyond rounding.
        seed: for evaluations that draw at random.
    """

    def __init__(
        self,
        model: PretrainingModel,
        readings: Mapping[str, StreamReading],
        sources: Mapping[str, SplitSource],
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
    ):
        self.model = model
        self.readings = dict(readings)
        self.sources = dict(sources)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self._cache: dict[tuple[str, str, Split, str | None, Each], Features] = {}

    def features(
        self,
        stream: str,
        *,
        source: str,
        split: Split,
        objective: str | None = None,
        each: Each = "sample",
    ) -> Features:
        """Return the vectors of a split's samples that have the stream, or of their tokens.

        Raises:
            DataError: no such source or stream, an empty split, or an objective's vectors of
                tokens: it has those of samples alone.
        """
        if each == "token" and objective is not None:
            raise DataError(
                f"objective {objective!r} represents samples, not their tokens: leave objective out"
            )
        key = (stream, source, split, objective, each)
        if key not in self._cache:
            self._cache[key] = self._features(stream, source, split, objective, each)
        return self._cache[key]

    def _features(
        self, stream: str, name: str, split: Split, objective: str | None, each: Each
    ) -> Features:
        source = self._source(name, split)
        size = source.size(split)
        names = (stream, *self.model.beside(stream, objective))
        readings = {other: self._reading(other) for other in names}
        fields = source.fields()
        dataset = PackedDataset([source], readings, split=split, fields=fields)
        vectors, rows = [], []
        kept: dict[str, list[Any]] = {field: [] for field in fields}
        refs = list(in_order([size], self.batch_size))
        with self._evaluating():
            for part, batch in zip(
                refs, load_batches(dataset, refs, workers=self.workers), strict=True
            ):
                layout = batch.streams[stream].layout
                if each == "token":
                    counts = np.bincount(layout.sample, minlength=layout.samples)
                    vectors.append(self._token_vectors(stream, batch.streams[stream]))
                else:
                    counts = np.array(layout.present, dtype=np.int64)
                    found = self._vectors(stream, batch.streams, objective)
                    vectors.append(found[counts > 0])
                rows.append(part.index.repeat(counts))
                for field in fields:
                    kept[field] += _spread(batch.fields[field], counts, each)
        return Features(np.concatenate(vectors), np.concatenate(rows), kept)

    def encode(
        self, stream: str, raws: Sequence[Any], *, objective: str | None = None
    ) -> Float[np.ndarray, "sample width"]:
        """Return the vectors of values as they stand in a record: paths, texts, arrays.

        Raises:
            DataError: `raws` is one value, not a list of them.
            UnreadableError: a value can't be read, or is empty; which, and why.
        """
        vectors, skipped = self.encode_readable(stream, raws, objective=objective)
        for number, reason in skipped.items():
            raise UnreadableError(f"value {number} of {len(raws)} for stream {stream!r}: {reason}")
        return vectors

    def encode_readable(
        self, stream: str, raws: Sequence[Any], *, objective: str | None = None
    ) -> tuple[Float[np.ndarray, "readable width"], dict[int, str]]:
        """Return the vectors of the values that can be read, and why others can't, by number.

        A value without any token is none: nothing is known of it.

        Raises:
            DataError: `raws` is one value, not a list of them.
        """
        if isinstance(raws, str | bytes | Mapping | Path):
            raise DataError(
                f"embedding takes a list of values, got one {type(raws).__name__}: "
                f"write [{raws!r:.40}]"
            )
        reading = self._reading(stream)
        found, skipped = [], {}
        with self._evaluating():
            for start in range(0, len(raws), self.batch_size):
                values: dict[int, Any] = {}
                for number, value in enumerate(raws[start : start + self.batch_size], start):
                    try:
                        if isinstance(value, UnreadableError):  # of a table's row
                            raise value
                        values[number] = _some(reading.shrunk(value))
                    except UnreadableError as error:
                        skipped[number] = str(error)
                tokens, without = _encoded(reading, values)
                skipped |= without
                if len(values) > len(without):
                    kept = np.array([number not in without for number in values])
                    found.append(self._vectors(stream, {stream: tokens}, objective)[kept])
        skipped = dict(sorted(skipped.items()))
        if not found:
            return np.zeros((0, self.model.encoder(stream).width), dtype=np.float32), skipped
        return np.concatenate(found), skipped

    def losses(
        self, objective: str, *, source: str, split: Split
    ) -> dict[str, tuple[float, float]]:
        """Return an objective's "loss" and metrics over a split, each as sum and count.

        Samples come in order, `batch_size` at a time, and noise is that of step 0.

        Raises:
            DataError: no such source, or an empty split.
        """
        sums: dict[str, tuple[float, float]] = {}
        fields = self.model.objective(objective).fields()
        with self._evaluating():
            for _, batch in self._batches(objective, source, split, fields):
                with torch.enable_grad():  # an objective may take inner gradients
                    loss = self.model(batch, seed=self.seed, objectives=[objective])[objective]
                for name, (total, count) in {
                    "loss": (loss.total, loss.count),
                    **loss.metrics,
                }.items():
                    old = sums.get(name, (0.0, 0.0))
                    sums[name] = (old[0] + float(total), old[1] + float(count))
        return sums

    def predictions(self, objective: str, *, source: str, split: Split) -> Predictions:
        """Return what an objective predicts of the samples of a split: classes, texts.

        Raises:
            DataError: no such source, an empty split, or an objective that predicts nothing.
        """
        task = self.model.objective(objective)
        if not isinstance(task, Predicting):
            raise DataError(f"{type(task).__name__} has no predictions to evaluate")
        fields = self._source(source, split).fields()
        values: list[Any] = []
        rows: list[int] = []
        kept: dict[str, list[Any]] = {field: [] for field in fields}
        with self._evaluating():
            for refs, batch in self._batches(objective, source, split, fields):
                step = Step(self.model, batch, seed=self.seed)
                step.objective = objective
                found = task.predictions(step)
                if isinstance(found.values, Tokens):
                    assert found.stream is not None
                    values += self._reading(found.stream).tokenizer.decode(found.values)
                else:
                    values += found.values
                rows += refs.index[list(found.rows)].tolist()
                for field in fields:
                    kept[field] += [batch.fields[field][row] for row in found.rows]
        return Predictions(values, np.array(rows, dtype=np.int64), kept)

    def _batches(
        self, objective: str, name: str, split: Split, fields: Sequence[str]
    ) -> Iterator[tuple[Refs, Batch]]:
        """Yield the samples of a split in order, as an objective reads them, on the device."""
        task = self.model.objective(objective)
        readings = {stream: self._reading(stream) for stream in task.needs()}
        views = {f"{objective}/{name}": view for name, view in task.views().items()}
        source = self._source(name, split)
        dataset = PackedDataset([source], readings, split=split, views=views, fields=fields)
        tokenizers = {name: reading.tokenizer for name, reading in readings.items()}
        refs = list(in_order([source.size(split)], self.batch_size))
        batches = load_batches(dataset, refs, workers=self.workers)
        for part, batch in zip(refs, batches, strict=True):
            yield part, self.model.finish(batch.to(self.device), tokenizers)

    def size(self, source: str, split: Split) -> int:
        """Return how many rows a split has.

        Raises:
            DataError: no such source.
        """
        if source not in self.sources:
            raise DataError(f"No source is called {source!r}.{nearest(source, self.sources)}")
        return self.sources[source].size(split)

    def _source(self, name: str, split: Split) -> SplitSource:
        if not self.size(name, split):
            raise DataError(
                f"source {name!r} has no {split} rows: give data.sources.{name}.split a share of it"
            )
        return self.sources[name]

    def confined(self, stream: str, value: Any, folders: Sequence[str | Path] | None) -> Any:
        """Return a value from data as it is, or why it may not name the files it does.

        Args:
            stream: whose reader would open them.
            value: as it stands in a row.
            folders: below which it may name files.
        """
        try:
            return self._reading(stream).confined(value, folders)
        except UnreadableError as error:
            return error

    def _reading(self, stream: str) -> StreamReading:
        if stream not in self.readings:
            raise DataError(f"No stream is called {stream!r}.{nearest(stream, self.readings)}")
        return self.readings[stream]

    def _vectors(
        self, stream: str, streams: Mapping[str, Tokens], objective: str | None
    ) -> np.ndarray:
        beside = {
            name: self.readings[name].tokenizer.finish(tokens.to(self.device))
            for name, tokens in streams.items()
        }
        tokens = beside.pop(stream)
        rows = self.model.encode(stream, tokens, objective=objective, beside=beside)
        return rows.float().cpu().numpy()

    def _token_vectors(self, stream: str, tokens: Tokens) -> np.ndarray:
        tokens = self.readings[stream].tokenizer.finish(tokens.to(self.device))
        encoded = self.model.encoder(stream)(tokens)
        rows = encoded.vectors if encoded.source is None else encoded.vectors[encoded.source]
        found: np.ndarray = rows.float().cpu().numpy()
        # Tokens of a sample stand together, whichever segments they lie in.
        return found[np.argsort(tokens.layout.sample.cpu().numpy(), kind="stable")]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)


def _spread(values: Sequence[Any], counts: np.ndarray, each: Each) -> list[Any]:
    """Return a field's value for each of the `counts` vectors of every sample."""
    found: list[Any] = []
    for value, count in zip(values, counts.tolist(), strict=True):
        own = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
        found += list(value) if each == "token" and own and len(value) == count else [value] * count
    return found


def _some(raw: Any) -> Any:
    """Return a raw value that holds something.

    Raises:
        UnreadableError: it holds nothing.
    """
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise UnreadableError("it is empty")
    return raw


def _encoded(reading: StreamReading, values: Mapping[int, Any]) -> tuple[Tokens, dict[int, str]]:
    """Return the tokens of raw values, and why some have none; those are absent."""
    try:
        tokens = reading.tokenizer.encode(list(values.values()))
        reasons: dict[int, str] = {}
    except Exception as error:
        reasons = {}
        for number, raw in values.items():
            try:
                reading.tokenizer.encode([raw])
            except Exception as own:
                reasons[number] = str(unreadable(own))
        if not reasons:
            raise DataError(f"the values can't be encoded together: {foreign(error)}") from error
        tokens = reading.tokenizer.encode([None if n in reasons else r for n, r in values.items()])
    for number, present in zip(values, tokens.layout.present, strict=True):
        if not present:
            reasons.setdefault(number, "it has no tokens")
    return tokens, reasons


def run_evaluations(
    evaluations: Mapping[str, Evaluation], probe: ModelProbe
) -> tuple[dict[str, list[Score]], dict[str, str]]:
    """Run every evaluation on one model; what they share is encoded once.

    Returns:
        Scores by evaluation; and why others have none: each fails alone.
    """
    scores: dict[str, list[Score]] = {}
    failed: dict[str, str] = {}
    for name, evaluation in evaluations.items():
        try:
            scores[name] = evaluation.run(probe)
        except Exception as error:
            ours = isinstance(error, PolymodalError)
            failed[name] = " ".join(str(error).split()) if ours else foreign(error)
    return scores, failed
