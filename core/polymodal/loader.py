"""From references to packed batches: read, tokenize and pack, in the data workers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from polymodal.batch import Batch, Skipped
from polymodal.dealing import Hand, deal
from polymodal.errors import UnreadableError
from polymodal.evaluation import Split
from polymodal.files import confine
from polymodal.noise import hash_words, mix
from polymodal.objective import View
from polymodal.sampling import Refs
from polymodal.source import Sample
from polymodal.splits import SplitSource
from polymodal.tokenizer import Reader, Tokenizer
from polymodal.tokens import Tokens


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


class _Generators(Sequence[np.random.Generator]):
    """One generator a raw value, made when first asked for: most tokenizers ask for none."""

    def __init__(self, keys: Sequence[int]):
        self._keys = keys
        self._made: dict[int, np.random.Generator] = {}

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
        raws: list[dict[str, list[Any]]] = [{name: [] for name in self.streams} for _ in samples]
        skipped: list[Skipped] = []
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
                    found = {
                        name: stream.raws(row, folders=folders)
                        for name, stream in self.streams.items()
                    }
                    if not any(found.values()):
                        wanted = sorted({stream.field for stream in self.streams.values()})
                        raise UnreadableError(f"it has none of the fields {', '.join(wanted)}")
                    samples[place], raws[place] = row, found
                except UnreadableError as error:
                    row_number = int(source.rows_of(self.split)[index])
                    skipped.append(Skipped(source.name, row_number, str(error)))
        keys = self._keys(refs)
        streams = {
            name: self._encode(name, stream, [raw[name] for raw in raws], keys)
            for name, stream in self.streams.items()
        }
        present = {name: tokens.layout.present for name, tokens in streams.items()}
        dealt = deal(self.groups, present, keys, seed=self.seed or 0)
        for name, view in self.views.items():
            own = dealt.get(name.partition("/")[0], (True,) * len(refs))
            seen = [raw[view.stream] if mine else [] for raw, mine in zip(raws, own, strict=True)]
            streams[name] = self._view(name, view, samples, seen, keys)
        return Batch(
            streams,
            len(refs),
            torch.from_numpy(keys),
            tuple(self.sources[s].name for s in refs.source),
            {field: tuple(sample.get(field) for sample in samples) for field in self.fields},
            tuple(skipped),
            dealt,
        )

    def _keys(self, refs: Refs) -> np.ndarray:
        names = np.array([hash_words(source.name) for source in self.sources], dtype=np.int64)
        rows = torch.from_numpy(names[refs.source] ^ refs.index)
        return mix(mix(rows) ^ torch.from_numpy(refs.epoch)).numpy()

    def _generators(self, name: str, keys: np.ndarray, owner: Sequence[int]) -> _Generators | None:
        if self.seed is None:
            return None
        word = hash_words(self.seed, name)
        return _Generators([int(keys[sample]) ^ word ^ (n << 1) for n, sample in _count(owner)])

    def _encode(
        self, name: str, stream: StreamReading, raws: Sequence[list[Any]], keys: np.ndarray
    ) -> Tokens:
        if not stream.many:
            flat = [raw[0] if raw else None for raw in raws]
            generators = self._generators(name, keys, range(len(flat))) if stream.augment else None
            return stream.tokenizer.encode(flat, generators=generators)
        flat = [item for raw in raws for item in raw]
        owner = [sample for sample, raw in enumerate(raws) for _ in raw]
        generators = self._generators(name, keys, owner) if stream.augment else None
        tokens = stream.tokenizer.encode(flat, generators=generators)
        return owned(tokens, owner, len(raws))

    def _view(
        self,
        name: str,
        view: View,
        samples: Sequence[Sample],
        raws: Sequence[list[Any]],
        keys: np.ndarray,
    ) -> Tokens:
        stream = self.streams[view.stream]
        word = hash_words(self.seed or 0, name, "view")
        made = []
        for sample, raw, key in zip(samples, raws, keys, strict=True):
            generators = _Generators([(int(key) ^ word) + n for n in range(len(raw))])
            made.append(
                [
                    None if item is None else view.make(item, sample, generator)
                    for item, generator in zip(raw, generators, strict=True)
                ]
            )
        return self._encode(name, stream, made, keys)


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
    return tokens.with_rows(tokens.rows, replace(tokens.layout, owner=owners, samples=samples))


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
