"""From references to packed batches: read, tokenize and pack, in the data workers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset

from polymodal.data.dealing import Hand, deal
from polymodal.data.reading import StreamReading
from polymodal.data.sampling import Refs
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import (
    DataError,
    UnreadableError,
    foreign,
    unreadable,
)
from polymodal.interfaces.evaluation import Split
from polymodal.interfaces.objective import View
from polymodal.interfaces.source import Sample
from polymodal.interfaces.tokenizer import Tokenizer
from polymodal.packed.batch import Batch, Skipped
from polymodal.packed.noise import hash_words, mix
from polymodal.packed.tokens import Tokens


class _Generators(Sequence[np.random.Generator]):
    """One generator a raw value, made when first asked for: most tokenizers ask for none."""

    def __init__(self, keys: Sequence[int], made: Mapping[int, np.random.Generator] | None = None):
        self._keys = keys
        self._made = dict(made or {})

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> np.random.Generator: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.random.Generator]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if index not in self._made:
            key = self._keys[index] & (2**64 - 1)
            self._made[index] = np.random.Generator(np.random.Philox(key=key))
        return self._made[index]


Drawn = dict[tuple[str, int, int], np.random.Generator]
"""Generators that have drawn already, by stream or view, sample in the batch, and segment."""


class _OfStream(UnreadableError):
    """A record that can't be used, and the stream that says so."""

    def __init__(self, reason: str, stream: str):
        super().__init__(reason)
        self.stream = stream


class _Unusable(Exception):
    """Samples of a batch that a tokenizer could not encode: why, by number."""

    def __init__(self, reasons: Mapping[int, str], stream: str):
        super().__init__(stream)
        self.reasons = dict(reasons)
        self.stream = stream


class PackedDataset(Dataset[Batch]):
    """Makes a packed batch of references; an unreadable record leaves a hole, never a shift.

    Whatever a source, reader, tokenizer or view raises of a record makes it unreadable.

    Args:
        sources: in the order of the numbers in `Refs.source`.
        streams: how each stream is read.
        split: which rows are meant.
        views: further copies of streams, by "objective/name".
        fields: fields of the sample to hand on as they are.
        groups: objectives among which samples are dealt, by group.
        seed: of random augmentation; None turns it off.
    """

    def __init__(
        self,
        sources: Sequence[SplitSource],
        streams: Mapping[str, StreamReading],
        *,
        split: Split = "train",
        views: Mapping[str, View] | None = None,
        fields: Sequence[str] = (),
        groups: Mapping[str, Mapping[str, Hand]] | None = None,
        seed: int | None = None,
    ):
        self.sources = list(sources)
        self.streams = dict(streams)
        self.split = split
        self.views = dict(views or {})
        self.fields = tuple(fields)
        self.groups = dict(groups or {})
        self.seed = seed

    def __getitem__(self, refs: Refs) -> Batch:
        return self.__getitems__(refs)

    def __getitems__(self, refs: Refs) -> Batch:
        """Read, tokenize and pack the samples of these references."""
        samples: list[Sample] = [{}] * len(refs)
        raws: list[dict[str, list[Any]]] = [{} for _ in samples]
        skipped: list[Skipped] = []
        keys = self._keys(refs)
        drawn: Drawn = {}
        late = any(map(self._dealt, self.views))  # then rows are asked for again, below

        def skip(place: int, reason: str, stream: str | None = None) -> None:
            source = self.sources[refs.source[place]]
            row = int(source.rows_of(self.split)[refs.index[place]])
            skipped.append(Skipped(source.name, row, reason, stream))

        for number in np.unique(refs.source):
            places = np.flatnonzero(refs.source == number).tolist()
            folders = self.sources[number].folders()
            rows = self.sources[number].read(self.split, refs.index[places].tolist())
            for place, row in zip(places, rows, strict=True):
                try:
                    if isinstance(row, UnreadableError):
                        raise row
                    raws[place] = self._small(row, place, keys[place], drawn, folders)
                    samples[place] = row if late else {f: row.get(f) for f in self.fields}
                except _OfStream as error:
                    skip(place, str(error), error.stream)
                except UnreadableError as error:
                    skip(place, str(error))
        while True:
            try:
                streams, dealt = self._packed(samples, raws, keys, drawn)
                break
            except _Unusable as unusable:
                for place, reason in unusable.reasons.items():
                    skip(place, reason, unusable.stream)
                    samples[place], raws[place] = {}, {}
        cut = {
            name: cut_samples(tokens, len(refs))
            for name, tokens in streams.items()
            if name in self.streams and any(tokens.cut)
        }
        return Batch(
            streams,
            len(refs),
            torch.from_numpy(keys),
            tuple(self.sources[s].name for s in refs.source),
            {field: tuple(sample.get(field) for sample in samples) for field in self.fields},
            tuple(skipped),
            dealt,
            cut,
        )

    def _packed(
        self,
        samples: Sequence[Sample],
        raws: Sequence[dict[str, list[Any]]],
        keys: np.ndarray,
        drawn: Drawn,
    ) -> tuple[dict[str, Tokens], dict[str, tuple[bool, ...]]]:
        """Return the streams and views, and which samples are whose.

        Raises:
            _Unusable: samples that can't be encoded.
        """
        streams = {
            name: self._encode(name, stream, [raw.get(name, []) for raw in raws], keys, drawn)
            for name, stream in self.streams.items()
        }
        present = {name: tokens.layout.present for name, tokens in streams.items()}
        dealt = deal(self.groups, present, keys, seed=self.seed or 0)
        for name, view in self.views.items():
            stream = self.streams[view.stream]
            made = [raw.get(name, []) for raw in raws]
            if self._dealt(name):
                own = dealt[name.partition("/")[0]]
                for place, mine in enumerate(own):
                    held = raws[place].get(_whole(view.stream), []) if mine else []
                    try:
                        made[place] = self._made(name, view, samples[place], held, keys[place])
                    except UnreadableError as error:
                        raise _Unusable({place: str(error)}, name) from error
            streams[name] = self._encode(name, stream, made, keys, drawn)
        return streams, dealt

    def _keys(self, refs: Refs) -> np.ndarray:
        names = np.array([hash_words(source.name) for source in self.sources], dtype=np.int64)
        rows = torch.from_numpy(names[refs.source] ^ refs.index)
        return mix(mix(rows) ^ torch.from_numpy(refs.epoch)).numpy()

    def _small(
        self, row: Sample, place: int, key: np.int64, drawn: Drawn,
        folders: Sequence[str | Path] | None,
    ) -> dict[str, list[Any]]:  # fmt: skip
        """Return what is needed of a row: its segments by stream and by view, shrunk at once.

        The whole raw value outlives this only where a view is made once samples are dealt.

        Raises:
            UnreadableError: the record can't be used.
        """
        found = {}
        for name, stream in self.streams.items():
            try:
                found[name] = stream.raws(row, folders=folders)
            except UnreadableError as error:
                raise _OfStream(str(error), name) from error
        if not any(found.values()):
            wanted = sorted({stream.field for stream in self.streams.values()})
            raise UnreadableError(f"it has none of the fields {', '.join(wanted)}")
        small: dict[str, list[Any]] = {}
        for name, view in self.views.items():
            if self._dealt(name):
                small[_whole(view.stream)] = found[view.stream]
                continue
            made = self._made(name, view, row, found[view.stream], key)
            small[name] = self._shrunk(name, self.streams[view.stream], made, place, key, drawn)
        for name, stream in self.streams.items():
            small[name] = self._shrunk(name, stream, found.pop(name), place, key, drawn)
        return small

    def _shrunk(
        self, name: str, stream: StreamReading, raws: list[Any], place: int, key: np.int64,
        drawn: Drawn,
    ) -> list[Any]:  # fmt: skip
        if type(stream.tokenizer).shrink is Tokenizer.shrink:
            return raws
        generators = None
        if stream.augment:
            generators = self._generators(name, np.array([key]), [0] * len(raws), {})
        small = []
        for number, raw in enumerate(raws):
            generator = None
            if generators is not None and raw is not None:
                generator = drawn[name, place, number] = generators[number]
            try:
                shrink = stream.tokenizer.shrink
                small.append(None if raw is None else shrink(raw, generator=generator))
            except Exception as error:
                raise _OfStream(str(unreadable(error)), name) from error
        return small

    def _dealt(self, view: str) -> bool:
        """Whether a view is made only of the samples that its objective is dealt."""
        objective = view.partition("/")[0]
        return any(objective in hands for hands in self.groups.values())

    def _generators(
        self, name: str, keys: np.ndarray, owner: Sequence[int], drawn: Drawn
    ) -> _Generators | None:
        """Return a generator a segment; one that has drawn already goes on where it was.

        Copies of it, so that a batch that is packed again draws what it drew at first.
        """
        if self.seed is None:
            return None
        word = hash_words(self.seed, name)
        places = list(_count(owner))
        made = {
            index: deepcopy(drawn[name, sample, n])
            for index, (n, sample) in enumerate(places)
            if (name, sample, n) in drawn
        }
        return _Generators([int(keys[sample]) ^ word ^ (n << 1) for n, sample in places], made)

    def _encode(
        self,
        name: str,
        stream: StreamReading,
        raws: Sequence[list[Any]],
        keys: np.ndarray,
        drawn: Drawn,
    ) -> Tokens:
        try:
            return self._tokens(name, stream, raws, keys, drawn)
        except Exception as error:
            reasons = {}
            for place, raw in enumerate(raws):
                alone = [raw if number == place else [] for number in range(len(raws))]
                try:
                    if raw:
                        self._tokens(name, stream, alone, keys, drawn)
                except Exception as own:
                    reasons[place] = str(unreadable(own))
            if not reasons:  # each by itself is all right
                why = foreign(error)
                raise DataError(f"stream {name!r}: a batch can't be encoded: {why}") from error
            raise _Unusable(reasons, name) from error

    def _tokens(
        self,
        name: str,
        stream: StreamReading,
        raws: Sequence[list[Any]],
        keys: np.ndarray,
        drawn: Drawn,
    ) -> Tokens:
        if not stream.many:
            flat = [raw[0] if raw else None for raw in raws]
            one_each = range(len(flat))
            generators = self._generators(name, keys, one_each, drawn) if stream.augment else None
            return stream.tokenizer.encode(flat, generators=generators)
        flat = [item for raw in raws for item in raw]
        owner = [sample for sample, raw in enumerate(raws) for _ in raw]
        generators = self._generators(name, keys, owner, drawn) if stream.augment else None
        tokens = stream.tokenizer.encode(flat, generators=generators)
        return owned(tokens, owner, len(raws))

    def _made(
        self, name: str, view: View, sample: Sample, raws: list[Any], key: np.int64
    ) -> list[Any]:
        """Return a view's copies of the raw values of one sample."""
        word = hash_words(self.seed or 0, name, "view")
        generators = _Generators([(int(key) ^ word) + n for n in range(len(raws))])
        try:
            return [
                None if item is None else view.make(item, sample, generator)
                for item, generator in zip(raws, generators, strict=True)
            ]
        except Exception as error:
            raise unreadable(error) from error


def _whole(stream: str) -> str:
    """Return the key of a stream's raw values that were not shrunk: no stream or view has it."""
    return f"{stream} whole"


def _count(owner: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (how many of this sample came before, sample) for each segment."""
    seen: dict[int, int] = {}
    for sample in owner:
        number = seen.get(sample, 0)
        seen[sample] = number + 1
        yield number, sample


def owned(tokens: Tokens, owner: Sequence[int], samples: int) -> Tokens:
    """Return tokens whose segments belong to the samples given."""
    owners = torch.tensor(owner, dtype=torch.int64)
    layout = replace(tokens.layout, owner=owners, samples=samples)
    return replace(tokens.with_rows(tokens.rows, layout), cut=tokens.cut)


def cut_samples(tokens: Tokens, samples: int) -> tuple[bool, ...]:
    """Return which samples own a segment that was cut."""
    owners = tokens.layout.owners
    return tuple(
        np.isin(
            range(samples), [o for o, cut in zip(owners, tokens.cut, strict=True) if cut]
        ).tolist()
    )


def in_order(sizes: Sequence[int], batch_size: int) -> Iterator[Refs]:
    """Yield references to every row of every source once, in order: for evaluation."""
    for number, size in enumerate(sizes):
        for start in range(0, size, batch_size):
            index = np.arange(start, min(start + batch_size, size))
            yield Refs(start, int(start + len(index)), np.full(len(index), number), index,
                       np.zeros(len(index), dtype=np.int64))  # fmt: skip


def token_counts(dataset: PackedDataset, number: int, *, batch_size: int = 256) -> np.ndarray:
    """Return the tokens of every row of a source, over all streams; 0 for an unreadable one."""
    source = dataset.sources[number]
    counts = np.zeros(source.size(dataset.split), dtype=np.int64)
    for start in range(0, len(counts), batch_size):
        indices = range(start, min(start + batch_size, len(counts)))
        for index, row in zip(indices, source.read(dataset.split, indices), strict=True):
            if isinstance(row, UnreadableError):
                continue
            with suppress(UnreadableError):
                counts[index] = sum(_tokens_of(s, row, source) for s in dataset.streams.values())
    return counts


def _tokens_of(stream: StreamReading, row: Sample, source: SplitSource) -> int:
    raws = stream.raws(row, folders=source.folders())
    try:
        return sum(stream.tokenizer.count(raws))
    except Exception as error:
        raise unreadable(error) from error
