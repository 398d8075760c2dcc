"""Matching: tell true pairs of samples from re-paired ones, seen through a fusion."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from polymodal.component import FromRun, ModuleName, Need, StreamInfo, StreamName
from polymodal.model import PretrainingModel
from polymodal.noise import hash_words
from polymodal.objective import Loss, Objective
from polymodal.step import Step
from polymodal_contrastive.losses import single
from polymodal_contrastive.pairs import check_streams, fields_read, needed, sample_keys
from polymodal_fusion import check_fusion, fuse


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


class Matching(Objective):
    """Image-text matching for any two streams (UNITER, Chen et al., 2020; ALBEF, Li et al., 2021).

    The samples that have both streams are true pairs; as many wrong ones are made by swapping
    partners within the batch, by a shift drawn from seed and step. All go through the fusion in one
    pass, and an mlp over both streams' pooled vectors says match or not. The count is the pairs
    scored. Not separable: a batch must not be cut into micro-batches.

    Args:
        info: the streams.
        streams: the two to match.
        fusion: name of the fusion that sees both.
        fusion_width: of the fusion's vectors; the first stream's unless given.
        negatives: swap the partner in the "second" stream, in the "first", or in "both", which
            makes two wrong pairs for a true one.
        same: a stream or a field; samples equal in it are never swapped for each other.

    Raises:
        ValueError: not two different known streams; at the first step, a fusion of another width.
    """

    separable = False

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        fusion: ModuleName,
        fusion_width: int | None = None,
        negatives: Literal["first", "second", "both"] = "second",
        same: str | None = None,
    ):
        super().__init__()
        check_streams(info, streams, least=2)
        if len(streams) != 2:
            raise ValueError(f"streams must be two, got {streams}")
        self.streams = (streams[0], streams[1])
        self.fusion = fusion
        self.negatives = negatives
        self.same = same
        self.needed = needed(info, streams, same)
        self.read = fields_read(info, same)
        self.width = info[streams[0]].width if fusion_width is None else fusion_width
        self.head = nn.Sequential(
            nn.Linear(2 * self.width, self.width), nn.GELU(), nn.Linear(self.width, 1)
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the streams compared, and the one that `same` names; any tokens will do."""
        return self.needed

    def fields(self) -> tuple[str, ...]:
        """Return the field that `same` names."""
        return self.read

    def attach(self, model: PretrainingModel) -> None:
        """Refuse a fusion that does not fit.

        Raises:
            ValueError: it reads other streams, or its vectors have another width.
        """
        check_fusion(model.module(self.fusion), self.streams, width=self.width)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion."""
        return (self.fusion,)

    def _pairs(self, step: Step) -> tuple[list[int], list[tuple[int, int]]]:
        rows = step.rows_with(*self.streams)
        keys = None if self.same is None else sample_keys(step, self.same).tolist()
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
        picked = ([*rows, *(a for a, _ in wrong)], [*rows, *(b for _, b in wrong)])
        parts = {
            stream: step.encode(stream).take(samples)
            for stream, samples in zip(self.streams, picked, strict=True)
        }
        fused = fuse(step.module(self.fusion), parts, width=self.width)
        joint = torch.cat([fused[stream].pooled_rows() for stream in self.streams], dim=1)
        logits = single(self.head(joint)[:, 0])
        labels = torch.zeros_like(logits)
        labels[: len(rows)] = 1
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        with torch.no_grad():
            correct = ((logits > 0) == labels.bool()).sum()
        count = len(rows) + len(wrong)
        return Loss(total, count, {"accuracy": (correct, count)})

    def count(self, step: Step) -> int:
        """Return how many true and re-paired pairs will be scored."""
        rows, wrong = self._pairs(step)
        return len(rows) + len(wrong)
