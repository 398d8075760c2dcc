"""From references to packed batches: read, tokenize and pack, in the data workers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from polymodal.data.dealing import Hand, deal
from polymodal.data.sampling import Refs
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import UnreadableError
from polymodal.ground.files import confine
from polymodal.interfaces.evaluation import Split
from polymodal.interfaces.objective import View
from polymodal.interfaces.source import Sample
from polymodal.interfaces.tokenizer import Reader, Tokenizer
from polymodal.packed.batch import Batch, Skipped
from polymodal.packed.noise import hash_words, mix
from polymodal.packed.tokens import Tokens


@dataclass(frozen=True)
class StreamReading:
    """How a stream's tokens are made from a sample."""

    field: str
    tokenizer: Tokenizer
    reader: Reader | None = None
    many: bool = False  # the field holds a list, each item a segment of its own
    augment: bool = True

    def raws(self, sample: Sample, *, folders: Sequence[str | Path] | None) -> list[Any]:
        """Return the raw values of a sample's segments; none if the field is missing.

        Args:
            sample: a row of a source.
            folders: below which it may name files (`Source.folders`).

        Raises:
            UnreadableError: one can't be read or tokenized, or leads outside of the folders.
        """
        value = sample.get(self.field)
        if value is None:
            return []
        if not self.many:
            return [self.raw(self.confined(value, folders))]
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise UnreadableError(
                f"{self.field!r} must hold a list, got {type(value).__name__}: {value!r:.60}"
            )
        return [self.raw(self.confined(item, folders)) for item in value]

    def confined(self, value: Any, folders: Sequence[str | Path] | None) -> Any:
        """Return a value from data as it is, if the files it names lie below the folders.

        Raises:
            UnreadableError: one does not.
        """
        if self.reader is not None:
            for path in self.reader.paths_in(value):
                confine(path, folders)
        return value

    def raw(self, value: Any) -> Any:
        """Return the raw value of one segment, None for None.

        Raises:
            UnreadableError: it can't be read or tokenized.
        """
        if value is None:
            return None
        raw = value if self.reader is None else self.reader(value)
        if raw is not None:
            self.tokenizer.check(raw)
        return raw

    def shrunk(self, value: Any) -> Any:
        """Return what the tokenizer needs of one segment, without random changes.

        Raises:
            UnreadableError: it can't be read or tokenized.
        """
        raw = self.raw(value)
        return None if raw is None else self.tokenizer.shrink(raw)


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


class PackedDataset(Dataset[Batch]):
    """Makes a packed batch of references; an unreadable record leaves a hole, never a shift.

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
        for number in np.unique(refs.source):
            source = self.sources[number]
            places = np.flatnonzero(refs.source == number)
            indices = refs.index[places].tolist()
            folders = source.folders()
            for place, index, row in zip(
                places, indices, source.read(self.split, indices), strict=True
            ):
                try:
                    if isinstance(row, UnreadableError):
                        raise row
                    raws[place] = self._small(row, int(place), keys[place], drawn, folders)
                    samples[place] = row if late else {f: row.get(f) for f in self.fields}
                except UnreadableError as error:
                    row_number = int(source.rows_of(self.split)[index])
                    skipped.append(Skipped(source.name, row_number, str(error)))
        streams = {
            name: self._encode(name, stream, [raw.get(name, []) for raw in raws], keys, drawn)
            for name, stream in self.streams.items()
        }
        present = {name: tokens.layout.present for name, tokens in streams.items()}
        cut = {
            name: cut_samples(tokens, len(refs))
            for name, tokens in streams.items()
            if any(tokens.cut)
        }
        dealt = deal(self.groups, present, keys, seed=self.seed or 0)
        for name, view in self.views.items():
            stream = self.streams[view.stream]
            if self._dealt(name):
                own = dealt[name.partition("/")[0]]
                held = [raw.get(_whole(view.stream), []) for raw in raws]
                made = [
                    self._made(name, view, *each) if mine else []
                    for mine, *each in zip(own, samples, held, keys, strict=True)
                ]
                streams[name] = self._encode(name, stream, made, keys, {})
            else:
                made = [raw.get(name, []) for raw in raws]
                streams[name] = self._encode(name, stream, made, keys, drawn)
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
        found = {name: stream.raws(row, folders=folders) for name, stream in self.streams.items()}
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
            small.append(None if raw is None else stream.tokenizer.shrink(raw, generator=generator))
        return small

    def _dealt(self, view: str) -> bool:
        """Whether a view is made only of the samples that its objective is dealt."""
        objective = view.partition("/")[0]
        return any(objective in hands for hands in self.groups.values())

    def _generators(
        self, name: str, keys: np.ndarray, owner: Sequence[int], drawn: Drawn
    ) -> _Generators | None:
        """Return a generator a segment; one that has drawn already goes on where it was."""
        if self.seed is None:
            return None
        word = hash_words(self.seed, name)
        places = list(_count(owner))
        made = {
            index: drawn[name, sample, n]
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
        return [
            None if item is None else view.make(item, sample, generator)
            for item, generator in zip(raws, generators, strict=True)
        ]


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


def _as_it_is(batch: Batch) -> Batch:
    return batch


def load_batches(
    dataset: PackedDataset,
    refs: Iterable[Refs],
    *,
    workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Return a plain DataLoader that makes the batches of these references, in order."""
    return DataLoader(
        dataset,
        batch_sampler=refs,  # type: ignore[arg-type]  # a Refs is handed on whole
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # __getitems__ made the batch
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or torch draws workers' seeds from the program's own state
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
            try:
                found = {
                    name: stream.raws(row, folders=source.folders())
                    for name, stream in dataset.streams.items()
                }
            except UnreadableError:
                continue
            counts[index] = sum(
                sum(dataset.streams[name].tokenizer.count(raws)) for name, raws in found.items()
            )
    return counts
