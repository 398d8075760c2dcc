"""Saying where a loss or a gradient stopped being a number."""

from collections.abc import Sequence
from pathlib import Path

from polymodal.data.sampling import Mixture, Refs
from polymodal.ground.errors import PolymodalError
from polymodal.training.checkpoint import checkpoints


def not_finite(
    what: str, names: Sequence[str], number: int, refs: Refs, mixture: Mixture, folder: Path
) -> PolymodalError:
    """Return the error that ends a run.

    Args:
        what: "loss" or "gradient".
        names: of the objectives it may come from.
        number: of the step, from 0.
        refs: the step's samples.
        mixture: they were drawn from.
        folder: of the run's checkpoints.
    """
    pairs = zip(refs.source.tolist(), refs.index.tolist(), strict=True)
    rows = ", ".join(f"{mixture.names[s]}[{i}]" for s, i in list(pairs)[:8])
    found = checkpoints(folder)
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
