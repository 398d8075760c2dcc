"""What each step is fed with: from the run's sequence of samples to micro-batches."""

import itertools
from collections.abc import Callable, Iterator

import torch

from polymodal.config.shape import Config
from polymodal.data.grouping import Grouped
from polymodal.data.loader import PackedDataset, token_counts
from polymodal.data.sampling import Draws, Mixture, Refs, batches
from polymodal.data.workers import load_batches
from polymodal.ground.distributed import rank, world_size
from polymodal.packed.batch import Batch


def feed(
    dataset: PackedDataset,
    mixture: Mixture,
    config: Config,
    *,
    batch_size: Callable[[int], int],
    step: int,
    position: int,
    device: torch.device,
) -> Iterator[tuple[Refs, list[Batch]]]:
    """Yield each step's references and this rank's micro-batches.

    Args:
        dataset: makes batches.
        mixture: the run's sequence.
        config: of the run.
        batch_size: samples of a step, by its number.
        step: to begin with.
        position: in the sequence, where that step begins.
        device: the batches will be moved to.
    """
    lengths, window, budget = None, config.data.group_by_length, config.data.tokens
    if window is not None or budget is not None:
        lengths = [token_counts(dataset, number) for number in range(len(dataset.sources))]
    sequence: Draws = mixture
    if window is not None:
        assert lengths is not None
        size = config.data.batch_size
        sequence = Grouped(mixture, lengths, batch_size=size, window=window, budget=budget)
    drawn: list[Refs] = []  # read ahead by the loader's workers, not yet trained on
    parts, first = world_size() * config.trainer.accumulate, rank() * config.trainer.accumulate

    def plan() -> Iterator[Refs]:
        steps = batches(
            sequence,
            batch_sizes=map(batch_size, itertools.count(step)),
            start=position,
            budget=budget,
            lengths=lengths,
        )
        for refs in steps:
            drawn.append(refs)
            for micro in range(config.trainer.accumulate):
                yield refs.part(first + micro, parts)

    loader = iter(
        load_batches(
            dataset,
            plan(),
            workers=config.data.workers,
            prefetch=config.data.prefetch,
            pin_memory=device.type == "cuda",
        )
    )
    while True:
        micro_batches = [next(loader) for _ in range(config.trainer.accumulate)]
        yield drawn.pop(0), micro_batches
