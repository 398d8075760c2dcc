"""What a run says beside its lines of metrics: how it begins, and what its evaluations score."""

from collections.abc import Mapping
from typing import Any

from polymodal.ground.distributed import rank
from polymodal.interfaces.evaluation import Score
from polymodal.model.probing import run_evaluations
from polymodal.runs.run import score_rows
from polymodal.training.underway import Underway


def say_at_start(training: Underway) -> None:
    """Say what the run begins with: shares of the data, and what is odd about it."""
    for text in [*training.told, *training.changed]:
        training.warn(text)
    shares = training.mixture.shares
    if len(shares) > 1:
        listed = ", ".join(
            f"{name} {share:.1%} ({size:,} rows)"
            for (name, share), size in zip(shares.items(), training.mixture.sizes, strict=True)
        )
        training.report.say(f"samples by source: {listed}")
    for name, size in zip(training.mixture.names, training.mixture.sizes, strict=True):
        for objective in training.model.objectives:
            own = training.config.objectives[objective].batch_size
            most = round((own or training.config.data.batch_size) * shares[name])
            if not training.model.objective(objective).separable and 0 < size < most:
                training.warn(
                    f"source {name!r} has {size} rows, but some {most} samples of a batch: "
                    f"{objective!r} compares rows with copies of themselves"
                )


def untrained_scores(training: Underway) -> dict[str, list[Score]] | None:
    """Return the scores of the model before its first step, measured once a run."""
    if not training.evaluations or not training.config.trainer.evaluate_untrained:
        return None
    found = training.directory.untrained()
    if found is None:
        if training.step:
            return None
        training.report.say("measuring the untrained model")
        scores, failed = run_evaluations(training.evaluations, training.probe())
        for name, reason in failed.items():
            training.warn(f"evaluate.{name} has no score: {reason}")
        if rank() == 0:
            written = {n: [vars(s) for s in each] for n, each in scores.items()}
            training.directory.write_json("untrained.json", written)
        return dict(scores)
    return found


def write_scores(
    training: Underway,
    scores: Mapping[str, list[Score]],
    untrained: Mapping[str, list[Score]] | None,
) -> list[dict[str, Any]]:
    """Write scores to the run's files and trackers, and return them as rows."""
    rows, failed = score_rows(scores, untrained), training.failed
    for name, reason in failed.items():
        training.warn(f"evaluate.{name} has no score: {reason}; the training is whole")
    if training.evaluations and rank() == 0:
        written = {"step": training.step, "scores": rows, "failed": failed}
        training.directory.write_json("evaluation.json", written)
        values = {f"{row['evaluation']}/{row['metric']}": row["value"] for row in rows}
        line = {"step": training.step, "scores": values}
        training.directory.append("scores.jsonl", [{**line, "failed": failed} if failed else line])
        for tracker in training.trackers.values():
            tracker.log(training.step, values)
    return rows
