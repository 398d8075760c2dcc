"""What a run has seen: samples drawn and skipped by source, targets scored by objective."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from polymodal.data.sampling import Refs
from polymodal.ground.distributed import rank, sum_over_ranks
from polymodal.ground.errors import DataError
from polymodal.packed.batch import Batch, Skipped

_HANDFUL = 10  # so few bad records say little about the share of the whole


class Seen:
    """Counts over a whole run, all ranks together, kept in checkpoints.

    Args:
        sources: names, by the numbers in `Refs.source`.
        objectives: names.
        limit: share of a source's samples that may be skipped.
        device: where sums over ranks are made.
    """

    def __init__(
        self,
        sources: Sequence[str],
        objectives: Sequence[str],
        *,
        limit: float,
        device: torch.device | str = "cpu",
    ):
        self.sources = tuple(sources)
        self.limit = limit
        self.device = device
        self.drawn = np.zeros(len(self.sources), dtype=np.int64)  # by all ranks
        self._skipped = np.zeros(len(self.sources), dtype=np.int64)  # by this rank
        self.scored = dict.fromkeys(objectives, 0.0)  # targets, of all ranks; NaN: not known
        self.compared = dict.fromkeys(objectives, (0, 0))  # steps, those with fewer than two rows
        self._last: Skipped | None = None

    def add(self, refs: Refs, skipped: Sequence[Skipped]) -> None:
        """Count a step's samples, and those of them that this rank could not use."""
        self.drawn += np.bincount(refs.source, minlength=len(self.drawn))
        for each in skipped:
            self._skipped[self.sources.index(each.source)] += 1
            self._last = each

    def score(self, totals: Mapping[str, tuple[float, float]]) -> None:
        """Count targets: sums and counts of some steps, over all ranks."""
        for name in self.scored:
            self.scored[name] += totals.get(name, (0.0, 0.0))[1]

    def compare(self, name: str, streams: Sequence[str], batches: Sequence[Batch]) -> None:
        """Count a step of an objective that compares samples, by those that it can compare.

        On one process alone: what other ranks have is not asked at each step.
        """
        rows = 0
        for batch in batches:
            present = np.zeros(batch.samples, dtype=np.int64)
            for stream in streams:
                present += np.array(batch.streams[stream].layout.present, dtype=np.int64)
            enough = present >= min(2, len(streams))
            rows += int((enough & np.array(batch.dealt.get(name, enough))).sum())
        steps, alone = self.compared[name]
        self.compared[name] = (steps + 1, alone + (rows < 2))

    def skipped(self) -> dict[str, int]:
        """Return how many samples of each source were skipped. All ranks call it."""
        counts = sum_over_ranks(torch.from_numpy(self._skipped).to(self.device))
        return dict(zip(self.sources, counts.tolist(), strict=True))

    def judge(self, where: str, *, ended: bool = False) -> list[str]:
        """Stop at a source that is too broken; all ranks call it, and stop together.

        Args:
            where: the file that has the reasons.
            ended: no more samples will come: also look at sources that few came from.

        Returns:
            Sources of which more than the limit was skipped, but too few to judge by: a sentence
            each, once the run has ended.

        Raises:
            DataError: more than the limit was skipped of a source; or all, when the run has ended.
        """
        doubts = []
        for (name, bad), drawn in zip(self.skipped().items(), self.drawn.tolist(), strict=True):
            if not drawn or bad <= self.limit * drawn:
                continue
            text = (
                f"{bad} of {drawn} samples of {name!r} could not be used ({bad / drawn:.0%}, more "
                f"than data.max_skipped {self.limit:.0%})"
            )
            if bad >= _HANDFUL or (ended and bad == drawn):
                last = self._last
                shown = last is not None and last.source == name
                reason = f". The last: row {last.index}: {last.reason}" if last and shown else ""
                raise DataError(f"{text}{reason}. All reasons are in {where}")
            if ended:
                doubts.append(f"{text}; the reasons are in {where}")
        return doubts

    def without_targets(self) -> list[str]:
        """Return the objectives that never had a target.

        Raises:
            DataError: none had one, so that nothing was learnt.
        """
        found = [name for name, count in self.scored.items() if not count]
        if found and len(found) == len(self.scored):
            raise DataError(
                f"nothing was trained: no sample had a target for {', '.join(found)}. Look at "
                "which fields the samples have, and at skipped.jsonl"
            )
        return found

    def alone(self) -> list[str]:
        """Return what to say of objectives that often had nothing to compare."""
        return [
            f"objective {name!r} compares samples, and had fewer than two in {alone} of {steps} "
            "steps: nothing was learnt by it there"
            for name, (steps, alone) in self.compared.items()
            if alone
        ]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps. All ranks call it."""
        skipped = self.skipped()
        sources = {
            name: [drawn, skipped[name]]
            for name, drawn in zip(self.sources, self.drawn.tolist(), strict=True)
        }
        return {"sources": sources, "scored": dict(self.scored), "compared": dict(self.compared)}

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Take back what `state` gave; None: of a run that did not count."""
        if state is None:
            self.scored = dict.fromkeys(self.scored, math.nan)
            return
        for number, name in enumerate(self.sources):
            self.drawn[number], skipped = state["sources"].get(name, (0, 0))
            self._skipped[number] = skipped if rank() == 0 else 0
        self.scored |= state["scored"]
        self.compared |= {name: tuple(each) for name, each in state["compared"].items()}
