"""Retrieval: find each sample's partner in another stream among all others."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from polymodal import (
    DataError,
    Evaluation,
    FieldName,
    Need,
    ObjectiveName,
    Probe,
    Score,
    SourceName,
    Split,
    StreamName,
    class_name,
)
from polymodal_evaluation.rows import (
    SPLITS,
    TIE,
    field_of,
    finite,
    is_missing,
    read_splits,
    same_width,
    unit,
)

_CELLS = 2**22  # similarities held at a time


class Retrieval(Evaluation):
    """Ranks all samples of one stream by cosine to a sample of the other, both ways.

    Recall@k is the share of samples that have a hit among the k most similar; mrr is the mean of
    1 / rank of the first hit. What is as similar as the hit ranks before it, so that an encoder
    that maps everything to one point gains nothing. Chance is exact: the mean over all orders.

    Args:
        streams: the two, such as [image, text]; samples that have both count.
        source: where samples come from.
        objective: its projection of both streams, needed unless they already share a space.
        split: split whose samples are queries and candidates; all: every split.
        k: how far down the list to look.
        mrr: also give the mean reciprocal rank; a number is the last rank that counts, later ones
            score 0 (1000 for code search, CodeSearchNet).
        group: field whose equal values count as hits, for captions that repeat; a sample without
            a value has itself as its one hit.
        once: the stream in which samples of a group are the same thing, a caption say: it is then
            one candidate, not several that fill the list together.

    Raises:
        ValueError: not two different streams, nothing to measure, or `once` without `group`.
    """

    def __init__(
        self,
        streams: tuple[StreamName, StreamName],
        source: SourceName,
        *,
        objective: ObjectiveName | None = None,
        split: Literal["train", "validation", "test", "all"] = "validation",
        k: Sequence[int] = (1, 10),
        mrr: bool | int = False,
        group: FieldName | None = None,
        once: StreamName | None = None,
    ):
        if once is not None and (once not in streams or group is None):
            raise ValueError(
                f"once must name one of {list(streams)}, and needs group; got {once!r}"
            )
        if len(streams) != 2 or streams[0] == streams[1]:
            raise ValueError(f"streams must name two different streams, got {list(streams)}")
        if any(each < 1 for each in k) or len(set(k)) < len(k):
            raise ValueError(f"k must hold different numbers from 1 on, got {list(k)}")
        if mrr is not True and mrr < 0:
            raise ValueError(f"mrr must be true, false or a rank from 1 on, got {mrr}")
        if not k and not mrr:
            raise ValueError("nothing to measure: give k, or set mrr")
        self.streams = (streams[0], streams[1])
        self.source = source
        self.objective = objective
        self.splits: tuple[Split, ...] = SPLITS if split == "all" else (split,)
        self.k = tuple(k)
        self.mrr = bool(mrr)
        self.last = None if isinstance(mrr, bool) else mrr
        self.group = group
        self.once = once

    def needs(self) -> Mapping[str, Need]:
        """Return that any tokens will do."""
        return {stream: Need() for stream in self.streams}

    def run(self, probe: Probe) -> list[Score]:
        """Return recall at each k, then mrr, in one direction and then in the other.

        Raises:
            DataError: no sample has both streams, or their vectors differ in width.
        """
        vectors, hits = self._pairs(probe)
        first, second = self.streams
        samples = len(hits)
        scores = []
        for query, candidate in ((first, second), (second, first)):
            listed = np.arange(samples)
            if candidate == self.once:
                listed = np.unique(hits, return_index=True)[1]  # the first of each group
            sizes = np.bincount(hits[listed])[hits]  # hits of each query among the candidates
            ranks = hit_ranks(vectors[query], vectors[candidate][listed], hits, hits[listed])
            way = f"{query}>{candidate}"
            for k in self.k:
                value, chance = float((ranks <= k).mean()), chance_recall(len(listed), sizes, k)
                scores.append(Score(f"recall@{k} {way}", value, chance, samples=samples))
            if self.mrr:
                chance = chance_mrr(len(listed), sizes, last=self.last)
                value = float(reciprocal(ranks, self.last).mean())
                scores.append(Score(f"mrr {way}", value, chance, samples=samples))
        return scores

    def _pairs(self, probe: Probe) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return both streams' vectors of the samples that have both, and their hit numbers."""
        first, second = (
            read_splits(
                probe, stream, source=self.source, objective=self.objective, splits=self.splits
            )
            for stream in self.streams
        )
        vectors: dict[str, list[np.ndarray]] = {stream: [] for stream in self.streams}
        groups: list[Any] = []
        for split in self.splits:
            if split not in first or split not in second:
                continue
            one, other = first[split], second[split]
            _, mine, theirs = np.intersect1d(
                one.rows, other.rows, assume_unique=True, return_indices=True
            )
            pairs = ((one, mine), (other, theirs))
            for stream, (part, taken) in zip(self.streams, pairs, strict=True):
                vectors[stream].append(finite(part.vectors[taken], stream=stream))
            if self.group is not None:
                column = field_of(one.fields, self.group, source=self.source)
                groups += [column[row] for row in mine]
        if not sum(len(part) for part in vectors[self.streams[0]]):
            raise DataError(
                f"no row of source {self.source!r} in {'/'.join(self.splits)} has both streams "
                f"{self.streams[0]!r} and {self.streams[1]!r}"
            )
        joined = {stream: np.concatenate(parts) for stream, parts in vectors.items()}
        left, right = (joined[stream] for stream in self.streams)
        same_width(left, right, self.streams)
        return joined, np.arange(len(left)) if self.group is None else group_numbers(groups)


def group_numbers(values: Sequence[Any]) -> Int[np.ndarray, " sample"]:
    """Return equal numbers for equal values; a missing value equals no other."""
    known: dict[str | int, int] = {}
    keys = (row if is_missing(value) else class_name(value) for row, value in enumerate(values))
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def hit_ranks(
    queries: Float[np.ndarray, "query width"],
    candidates: Float[np.ndarray, "candidate width"],
    groups: Int[np.ndarray, " query"],
    candidate_groups: Int[np.ndarray, " candidate"],
) -> Int[np.ndarray, " query"]:
    """Return the rank (from 1) of each query's most similar hit; ties go against it.

    Candidates of the query's group are its hits.
    """
    queries, candidates = unit(queries), unit(candidates)
    ranks = np.zeros(len(queries), dtype=np.int64)
    step = max(1, _CELLS // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        similar = queries[part] @ candidates.T
        hit = groups[part, None] == candidate_groups[None]
        best = np.where(hit, similar, -np.inf).max(axis=1, keepdims=True)
        ranks[part] = 1 + (~hit & (similar >= best - TIE)).sum(axis=1)
    return ranks


def all_missed(candidates: int, hits: int) -> Float[np.ndarray, " rank"]:
    """Return the chance that the first 0, 1, ... all candidates of a random order miss.

    At k it is C(N - g, k) / C(N, k), for N candidates of which g are hits.
    """
    place = np.arange(candidates)
    misses = np.maximum(candidates - hits - place, 0) / (candidates - place)
    return np.concatenate([[1.0], np.cumprod(misses)])


def chance_recall(candidates: int, hits: Int[np.ndarray, " sample"], k: int) -> float:
    """Return the recall@k of random orders, averaged over queries with so many hits."""
    sizes, counts = np.unique(hits, return_counts=True)
    found = [1 - all_missed(candidates, size)[min(k, candidates)] for size in sizes]
    return float(np.average(found, weights=counts))


def reciprocal(ranks: Int[np.ndarray, " rank"], last: int | None) -> Float[np.ndarray, " rank"]:
    """Return 1 / rank, 0 past the last rank that counts."""
    return np.where(ranks <= (last or np.inf), 1 / ranks, 0.0)


def chance_mrr(
    candidates: int, hits: Int[np.ndarray, " sample"], *, last: int | None = None
) -> float:
    """Return the mean reciprocal rank of random orders, averaged likewise."""
    sizes, counts = np.unique(hits, return_counts=True)
    rank = np.arange(1, candidates + 1)
    score = reciprocal(rank, last)
    found = [(-np.diff(all_missed(candidates, size)) * score).sum() for size in sizes]
    return float(np.average(found, weights=counts))
