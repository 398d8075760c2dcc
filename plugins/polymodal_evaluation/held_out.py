"""Held-out loss: how well an objective does on samples it was not trained on."""

from collections.abc import Mapping, Sequence

from polymodal import DataError, Evaluation, Need, ObjectiveName, Probe, Score, SourceName, Split


class HeldOut(Evaluation):
    """Runs an objective over a split, with noise that is the same each time.

    Args:
        objective: the name of one under `objectives`.
        source: where samples come from.
        split: which of its rows.
        metrics: of "loss" and the objective's own metrics, those to give; all of them unless
            named. All but "loss" count as better when higher.
        chance: what guessing would score on the first of them, where it is known.
    """

    def __init__(
        self,
        objective: ObjectiveName,
        source: SourceName,
        *,
        split: Split = "validation",
        metrics: Sequence[str] = (),
        chance: float | None = None,
    ):
        self.objective = objective
        self.source = source
        self.split: Split = split
        self.metrics = tuple(metrics)
        self.chance = chance

    def needs(self) -> Mapping[str, Need]:
        """Return nothing: the objective says what it needs."""
        return {}

    def run(self, probe: Probe) -> list[Score]:
        """Return the loss and metrics.

        Raises:
            DataError: nothing to score in the split, or no such metric.
        """
        try:
            sums = probe.losses(self.objective, source=self.source, split=self.split)
        except KeyError as error:
            raise DataError(str(error.args[0])) from error
        if not sums["loss"][1]:
            raise DataError(f"objective {self.objective!r} has nothing to score in {self.split}")
        unknown = [name for name in self.metrics if name not in sums]
        if unknown:
            raise DataError(
                f"objective {self.objective!r} has no metric {unknown[0]!r}; it has "
                f"{', '.join(sums)}"
            )
        names = self.metrics or tuple(sums)
        return [
            Score(
                name,
                sums[name][0] / max(sums[name][1], 1),
                chance=self.chance if name == names[0] else None,
                higher_is_better=name != "loss",
                samples=int(sums[name][1]),
            )
            for name in names
        ]
