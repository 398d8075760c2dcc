"""What changes over a run by a fixed plan: the learning rate, the weight decay, a momentum."""

import math

from polymodal.config.shape import OptimizerConfig


def learning_rate(step: int, total: int, config: OptimizerConfig) -> float:
    """Return the rate of a step: a linear warm-up, then cosine, linear or constant.

    Args:
        step: from 0.
        total: steps of the run.
        config: peak rate, warm-up, shape, and the share that is left at the end.
    """
    peak = config.learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return peak
    after = max(1, total - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / after)
    if config.schedule == "linear":
        return peak * (config.final_share + (1 - config.final_share) * (1 - done))
    return cosine(peak, peak * config.final_share, done)


def weight_decay(step: int, total: int, config: OptimizerConfig) -> float:
    """Return the decay of a step: constant, or from the first to the final by a cosine."""
    if config.final_weight_decay is None:
        return config.weight_decay
    return cosine(config.weight_decay, config.final_weight_decay, min(1.0, step / max(1, total)))


def cosine(first: float, last: float, done: float) -> float:
    """Return a value that goes from `first` to `last` by half a cosine; `done` from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
