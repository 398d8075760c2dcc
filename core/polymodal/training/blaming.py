"""Saying what ended a run: the step, the objectives and the rows that a fault comes from.

Looked for once a run has failed, by making its step again.
"""

from collections.abc import Sequence

from polymodal.data.sampling import Refs
from polymodal.ground.device import seed_generators
from polymodal.ground.distributed import rank, world_size
from polymodal.ground.errors import DataError, PolymodalError
from polymodal.packed.noise import hash_words
from polymodal.training.checkpoint import checkpoints
from polymodal.training.underway import Underway


def not_finite(
    training: Underway, what: str, names: Sequence[str], number: int, refs: Refs
) -> PolymodalError:
    """Return the error that ends a run.

    Args:
        training: the run.
        what: "loss" or "gradient".
        names: of the objectives it may come from.
        number: of the step, from 0.
        refs: the step's samples.
    """
    mixture = training.mixture
    pairs = zip(refs.source.tolist(), refs.index.tolist(), strict=True)
    rows = ", ".join(f"{mixture.names[s]}[{i}]" for s, i in list(pairs)[:8])
    found = checkpoints(training.directory.checkpoints)
    last = int(found[-1].name.removeprefix("step-")) if found else 0
    way = (
        f"go on from the last checkpoint, of step {last}, by --resume with a lower "
        "optimizer.learning_rate"
        if found
        else "there is no checkpoint yet: begin again in another --out with a lower "
        "optimizer.learning_rate"
    )
    whose = "objective" if len(names) == 1 else "objectives"
    return PolymodalError(
        f"The {what} of {whose} {', '.join(map(repr, names))} is not finite at step {number + 1}. "
        f"Samples: {rows}{', ...' if len(refs) > 8 else ''}. The weights were not moved by it. "
        f"Look at these rows, or {way}."
    )


def astray(training: Underway, number: int, refs: Refs) -> list[str]:
    """Return the objectives of a step whose gradient is no number, by making it again.

    All of the step's where that shows none, and with several ranks.
    """
    names = training.objectives_of(number)
    if world_size() > 1 or len(names) == 1:
        return names
    parts, seed = training.config.trainer.accumulate, training.config.seed
    steps = [training.to_device(training.dataset[refs.part(n, parts)]) for n in range(parts)]
    seed_generators(hash_words(seed, "step", number, rank()), training.device)
    optimization = training.optimization
    return optimization.astray(steps, names, number=number, total=training.total) or names


def placed(training: Underway, error: DataError, number: int, refs: Refs) -> DataError:
    """Return an error of an objective with the row it is about, found by trying each alone."""
    arguments = {"number": number, "total": training.total, "seed": training.config.seed}
    for place in range(len(refs)) if world_size() == 1 else ():
        batch = training.to_device(training.dataset[refs.only(place)])
        for name in training.objectives_of(number):
            try:
                training.model(batch, **arguments, objectives=[name])
            except DataError as own:
                source = list(training.sources.values())[refs.source[place]]
                row = source.rows_of("train")[refs.index[place]]
                where = training.builder.origin.of(f"objectives.{name}")
                return DataError(f"{where}: row {row} of {source.name!r}: {own}")
    return error
