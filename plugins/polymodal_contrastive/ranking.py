"""Ranking: score true pairs above wrong ones by a margin, seen through a fusion."""

from collections.abc import Mapping

import torch
from torch import Tensor

from polymodal import FromRun, Loss, ModuleName, Step, StreamInfo, StreamName, hash_words
from polymodal_contrastive.matching import repaired
from polymodal_contrastive.scoring import PairObjective

Triplet = tuple[int, tuple[int, int]]  # a sample, and the wrong pair its true one is compared with


class Ranking(PairObjective):
    """Fine-tune a fusion for retrieval (UNITER, Chen et al., 2020, appendix; image-text retrieval).

    A true pair's score, the sigmoid of an mlp over fused vectors, must pass that of a wrong pair by
    a margin; each comparison is one count. Wrong pairs are made within the batch by swapping the
    second stream, and as many by swapping the first. The weights are those of
    `contrastive.matching`: `initialize: RUN#match` starts from them. Not separable: a batch must
    not be cut into micro-batches.

    Args:
        info: the streams.
        streams: the two to match.
        fusion: name of the fusion that sees both.
        fusion_width: of the fusion's vectors; the first stream's unless given.
        read: the fused parts whose pooled vectors are read; both streams unless given.
        margin: between the sigmoids.
        negatives: wrong partners of each sample and side.
        hard: take those that score highest of the whole batch, which is scored first, without
            gradient; the metric "recall@1" then says how often the true partner is first of all.
            Otherwise they are drawn.
        same: a stream or a field; samples equal in it are never swapped for each other.

    Raises:
        ValueError: not two different known streams, or a number out of range; when the model is
            built, a fusion of another width or other streams.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        streams: list[StreamName],
        fusion: ModuleName,
        fusion_width: int | None = None,
        read: list[str] | None = None,
        margin: float = 0.2,
        negatives: int = 1,
        hard: bool = False,
        same: str | None = None,
    ):
        super().__init__(
            info, streams, fusion=fusion, fusion_width=fusion_width, read=read, same=same
        )
        if not 0 < margin < 1 or negatives < 1:
            raise ValueError(
                f"margin must lie between 0 and 1 and negatives be 1 or more, got {margin} and "
                f"{negatives}"
            )
        self.margin = margin
        self.negatives = negatives
        self.hard = hard

    def _drawn(self, step: Step, rows: list[int]) -> list[Triplet]:
        """Return wrong pairs by shifts of the batch, drawn from seed and step."""
        keys, others = self.keys(step), max(len(rows) - 1, 1)
        first = hash_words(step.seed, step.number, "contrastive.ranking") % others
        found: list[Triplet] = []
        for further in range(min(self.negatives, others)):
            wrong = repaired(rows, 1 + (first + further) % others, keys)
            found += [(row, (row, other)) for row, other in wrong]
            found += [(row, (other, row)) for row, other in wrong]
        return found

    def _hardest(self, step: Step, rows: list[int]) -> tuple[list[Triplet], Tensor]:
        """Return the wrong pairs of the highest scores, and how many samples are ranked first."""
        with torch.no_grad():
            scores, _ = self.score(step, [(a, b) for a in rows for b in rows])
        scores = scores.reshape(len(rows), len(rows))
        keys = self.keys(step)
        names = torch.tensor(rows if keys is None else [keys[row] for row in rows])
        same = (names[:, None] == names).to(scores.device)
        same |= torch.eye(len(rows), dtype=torch.bool, device=scores.device)
        wrong = scores.masked_fill(same, -torch.inf)
        found: list[Triplet] = []
        ahead = scores.new_zeros(())
        for side, others in enumerate((wrong, wrong.T)):  # swap the second stream, then the first
            ahead = ahead + (scores.diagonal()[:, None] > others).all(dim=1).sum()
            best = others.topk(min(self.negatives, len(rows)), dim=1)
            usable = best.values.isfinite().tolist()
            for row, places, valid in zip(rows, best.indices.tolist(), usable, strict=True):
                partners = [rows[p] for p, ok in zip(places, valid, strict=True) if ok]
                found += [(row, (other, row) if side else (row, other)) for other in partners]
        return found, ahead

    def forward(self, step: Step) -> Loss:
        """Return the loss over comparisons."""
        rows = step.rows_with(*self.streams)
        metrics: dict[str, tuple[Tensor, int]] = {}
        if self.hard:
            triplets, ahead = self._hardest(step, rows)
            metrics["recall@1"] = (ahead, 2 * len(rows))
        else:
            triplets = self._drawn(step, rows)
        logits, _ = self.score(
            step, [*zip(rows, rows, strict=True), *(pair for _, pair in triplets)]
        )
        place = {row: number for number, row in enumerate(rows)}
        anchor = torch.tensor([place[row] for row, _ in triplets], dtype=torch.int64)
        scores = logits.sigmoid()
        true, wrong = scores[anchor.to(scores.device)], scores[len(rows) :]
        total = (self.margin + wrong - true).clamp(min=0).sum()
        with torch.no_grad():
            metrics["accuracy"] = ((true > wrong).sum(), len(triplets))
        return Loss(total, len(triplets), metrics)

    def count(self, step: Step) -> int | None:
        """Return how many comparisons there will be; unknown with hard ones, which are scored."""
        rows = step.rows_with(*self.streams)
        return None if self.hard else len(self._drawn(step, rows))
