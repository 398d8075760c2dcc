"""Matching: tell true pairs of samples from re-paired ones, seen through a fusion."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal import (
    Encoded,
    FieldName,
    FromRun,
    Loss,
    ModuleName,
    Need,
    Step,
    StreamInfo,
    StreamName,
    hash_words,
)
from polymodal_contrastive.scoring import PairObjective
from polymodal_contrastive.transport import Partners, aligned, alignment, check_transport


def repaired(
    rows: Sequence[int], shift: int, keys: Sequence[object] | None = None
) -> list[tuple[int, int]]:
    """Give each row another row as a wrong partner: the one `shift` places on, going round.

    A row whose key is the same is no wrong partner, so the next one along is taken; a row without
    any other key has none.
    """
    found: list[tuple[int, int]] = []
    count = len(rows)
    for place, row in enumerate(rows):
        for further in range(count - 1):
            # 1 to count - 1 places on, beginning with `shift`: never the row itself.
            step = (shift - 1 + further) % (count - 1) + 1
            other = rows[(place + step) % count]
            if keys is None or keys[row] != keys[other]:
                found.append((row, other))
                break
    return found


class Matching(PairObjective):
    """Image-text matching for any two streams (UNITER, Chen et al., 2020; ALBEF, Li et al., 2021).

    The samples that have both streams are true pairs; as many wrong ones are made by swapping
    partners within the batch, by a shift drawn from seed and step. All go through the fusion in one
    pass, and an mlp over pooled vectors says match or not. The count is the pairs scored. Not
    separable: a batch must not be cut into micro-batches.

    With `transport`, the same pass also aligns the tokens of both streams (word-region alignment,
    UNITER, section 3.2): the optimal-transport distance of true pairs is added and that of wrong
    ones taken away, so that the loss can be negative.

    Args:
        info: the streams.
        streams: the two to match.
        fusion: name of the fusion that sees both.
        fusion_width: of the fusion's vectors; the first stream's unless given.
        read: the fused parts whose pooled vectors the mlp reads: both streams unless given, or the
            fusion's `joint` one, for a [CLS] token say.
        negatives: swap the partner in the "second" stream, in the "first", or in "both", which
            makes two wrong pairs for a true one.
        same: a stream or a field; samples equal in it are never swapped for each other.
        transport: weight of the alignment; 0.1 in the paper.
        transport_beta: see `optimal_transport`.
        transport_iterations: likewise.
        partners: a field that lists, for each word of the first stream, the numbers of the tokens
            of the second that it belongs to. Evaluations then tell the metric "alignment": how
            often a word's strongest partner is one of these.

    Raises:
        ValueError: not two different known streams, a number out of range, or a first stream
            without words for `partners`; when the model is built, a fusion of another width or
            other streams.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        fusion: ModuleName,
        fusion_width: int | None = None,
        read: list[str] | None = None,
        negatives: Literal["first", "second", "both"] = "second",
        same: str | None = None,
        transport: float = 0.0,
        transport_beta: float = 0.5,
        transport_iterations: int = 50,
        partners: FieldName | None = None,
    ):
        super().__init__(
            info, streams, fusion=fusion, fusion_width=fusion_width, read=read, same=same
        )
        if transport < 0:
            raise ValueError(f"transport must be 0 or more, got {transport}")
        check_transport(transport_beta, transport_iterations)
        self.negatives = negatives
        self.transport = transport
        self.transport_beta = transport_beta
        self.transport_iterations = transport_iterations
        self.partners = partners
        if partners is not None:
            need = Need(channels=("word",))
            need.check(info, streams[0])
            self.needed[streams[0]] = need
            self.fields_read = tuple(dict.fromkeys((*self.fields_read, partners)))

    def _pairs(self, step: Step) -> tuple[list[int], list[tuple[int, int]]]:
        rows = step.rows_with(*self.streams)
        keys = self.keys(step)
        drawn = hash_words(step.seed, step.number, "contrastive.matching") % max(len(rows) - 1, 1)
        wrong: list[tuple[int, int]] = []
        if self.negatives != "first":
            wrong += repaired(rows, 1 + drawn, keys)
        if self.negatives != "second":
            wrong += [(other, row) for row, other in repaired(rows, 1 + drawn, keys)]
        return rows, wrong

    def forward(self, step: Step) -> Loss:
        """Return the loss over true and re-paired pairs."""
        rows, wrong = self._pairs(step)
        logits, fused = self.score(step, [*zip(rows, rows, strict=True), *wrong])
        labels = torch.zeros_like(logits)
        labels[: len(rows)] = 1
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        with torch.no_grad():
            correct = ((logits > 0) == labels.bool()).sum()
        count = len(rows) + len(wrong)
        metrics: dict[str, tuple[Tensor, int | Tensor]] = {"accuracy": (correct, count)}
        asked = None if step.training else self.partners
        if self.transport or asked:
            words, others = (_whole(fused[stream]) for stream in self.streams)
            distance, plan = alignment(
                words, others, beta=self.transport_beta, iterations=self.transport_iterations
            )
            total = total + self.transport * (distance * (2 * labels - 1)).sum()
            if asked:
                partners = cast(Sequence[Partners], step.labels(asked))
                true = words.layout.taken(range(len(rows)))[0]
                metrics["alignment"] = aligned(
                    plan[: len(rows)], true, [partners[row] for row in rows]
                )
        return Loss(total, count, metrics)

    def count(self, step: Step) -> int:
        """Return how many true and re-paired pairs will be scored."""
        rows, wrong = self._pairs(step)
        return len(rows) + len(wrong)


def _whole(encoded: Encoded) -> Encoded:
    """Return one segment a sample."""
    return encoded if encoded.layout.owner is None else Encoded.join([encoded])[0]
