"""The learning rate by step."""

import math

from polymodal.config import OptimizerConfig


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
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return peak * (config.final_share + (1 - config.final_share) * left)
