"""Subjects for checks of parts, and what owns them meanwhile: a toy stream, encoder and step."""

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.parts import (
    Candidates,
    Corrupted,
    Head,
    Hidden,
    Hiding,
    Part,
    Pooler,
    Replacing,
    Target,
)
from polymodal.interfaces.step import Step
from polymodal.packed.batch import Batch
from polymodal.packed.choice import hideable
from polymodal.packed.tokens import Encoded, Tokens
from polymodal.testing.comparing import random_state_kept
from polymodal.testing.modules import through_a_file
from polymodal.testing.registry import ConformanceError
from polymodal.testing.toys import (
    LENGTHS,
    TOY_STREAMS,
    WIDTH,
    take,
    toy_batch,
    toy_info,
    toy_model,
)

OUTPUTS = 5  # of heads, where the stream's ids will not do


class Half(Hiding):
    """Hides half of the tokens at random: the toy beside which other parts are checked."""

    def choose(self, among: Candidates) -> Hidden:
        """Return what is hidden."""
        return among.lowest(among.noise("half"), 0.5)


@dataclass
class PartSubject:
    """A part under examination.

    Args:
        make: builds it from its options.
        kind: of part.
    """

    make: Callable[[], Part]
    kind: str

    @cached_property
    def stream(self) -> str:
        """The first of the kit's own streams that it takes.

        Raises:
            ConformanceError: it takes none.
        """
        reasons = []
        for name, info in toy_info().items():
            part = self.make()
            unmet = None if isinstance(part, Pooler) else part.need().unmet(info)  # type: ignore[attr-defined, operator]
            try:
                if unmet is None:
                    self._bind(part, info)
                    return name
                reasons.append(unmet)
            except ValueError as error:
                reasons.append(str(error))
        raise ConformanceError(f"none of the kit's streams will do: {'; '.join(set(reasons))}")

    def _bind(self, part: Part, info: StreamInfo) -> None:
        if isinstance(part, Pooler):
            part.bind(WIDTH)
        elif isinstance(part, Head):
            part.bind(WIDTH, self._outputs(info), info)
        else:
            assert isinstance(part, Hiding | Replacing | Target)
            part.bind(info)

    def _outputs(self, info: StreamInfo) -> int:
        return info.spec.vocabulary or OUTPUTS

    @property
    def info(self) -> StreamInfo:
        """What is known of its stream."""
        return toy_info()[self.stream]

    def built(self, seed: int = 0) -> Any:
        """Return a fresh part that knows its stream, its weights drawn with this seed."""
        with random_state_kept(seed):
            part = self.make()
            self._bind(part, self.info)
        return part

    def batch(self, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> Batch:
        """Return a batch of its stream, with the fields it reads."""
        part = self.make()
        fields = part.fields() if isinstance(part, Hiding) else ()
        return toy_batch([self.stream], lengths=lengths, fields=fields, seed=seed)

    def candidates(self, batch: Batch, *, number: int = 0) -> Candidates:
        """Return what there is to hide in a batch, in a model of a toy encoder."""
        spec = TOY_STREAMS[self.stream].spec
        step = Step(toy_model(None, [self.stream]).eval(), batch, number=number, total=100)
        tokens = batch.streams[self.stream]
        return Candidates(
            step, self.stream, tokens, spec, hideable(tokens, spec),
            lambda name: step.uniform(name, tokens), range(batch.samples),
        )  # fmt: skip

    def hidden(self, batch: Batch, *, number: int = 0) -> tuple[Hidden, Candidates]:
        """Return half of the tokens, hidden by the kit's own toy."""
        among = self.candidates(batch, number=number)
        return Half().choose(among), among

    def unembed(self, vectors: Tensor) -> Tensor | None:
        """Score ids by a fixed table."""
        size = self.info.spec.vocabulary
        if not size:
            return None
        table = torch.randn(WIDTH, size, generator=torch.Generator().manual_seed(9))
        return vectors @ table.to(vectors.dtype)


def corrupted(hidden: Hidden, among: Candidates) -> Corrupted:
    """Return the stream as if the model saw it whole."""
    return Corrupted(among, hidden, hidden.tokens)


def rows_by_sample(found: Hidden, samples: int) -> list[list[tuple[int, int, bool]]]:
    """Return, for each sample, its hidden tokens: segment of it, place, whether it counts."""
    layout, told = found.tokens.layout, found.counted
    first: dict[int, int] = {}
    for segment, owner in enumerate(layout.owners):
        first.setdefault(owner, segment)
    rows: list[list[tuple[int, int, bool]]] = [[] for _ in range(samples)]
    for number, row in enumerate(found.rows.tolist()):
        segment = int(layout.segment[row])
        owner = layout.owners[segment]
        counts = True if told is None else bool(told[number])
        rows[owner].append((segment - first[owner], int(layout.within[row]), counts))
    return rows


def subsets(batch: Batch) -> list[list[int]]:
    """Return samples in another order, and each alone."""
    return [[3, 0, 5, 1, 4, 2], *([s] for s in range(batch.samples))]


def require_untouched(before: Tokens, after: Tokens, what: str) -> None:
    """Refuse tokens that were changed in place."""
    if not torch.equal(before.rows, after.rows):
        raise ConformanceError(f"{what} changes the tokens it is given: make new ones")


def copied(tokens: Tokens) -> Tokens:
    """Return a copy of tokens, to see later whether they changed."""
    return tokens.with_rows(tokens.rows.clone())


def require_saved(subject: PartSubject, result: Callable[[Any], Any], part: Any) -> None:
    """Refuse a part that isn't the same after its state went through a file, or a pickle."""
    from polymodal.testing.comparing import same

    wanted = result(part)
    fresh = subject.built(seed=7)
    through_a_file(part, fresh)
    if not same(result(fresh), wanted):
        raise ConformanceError(
            "with the saved state, a fresh instance gives another result: keep what it learns in "
            "parameters and buffers"
        )
    try:
        again = pickle.loads(pickle.dumps(part))
        copy.deepcopy(part)
    except Exception as error:
        raise ConformanceError(f"it can't be pickled or copied: {error}") from error
    if not same(result(again), wanted):
        raise ConformanceError("after pickling it gives another result")


def samples_of(batch: Batch, samples: Sequence[int]) -> Batch:
    """Return some samples of a batch."""
    return take(batch, samples)


def encoded_of(tokens: Tokens, *, seed: int = 0) -> Encoded:
    """Return vectors for tokens, each of what its own row holds and its place."""
    generator = torch.Generator().manual_seed(seed)
    rows = tokens.rows.double()
    rows = rows[:, None] if rows.dim() == 1 else rows
    mix = torch.randn(rows.shape[1], WIDTH, generator=generator, dtype=torch.float64)
    vectors = torch.sin(rows @ mix + tokens.layout.within[:, None])
    return Encoded.mean_pooled(tokens.layout, vectors)
