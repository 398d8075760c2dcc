"""Other libraries' grip on the whole program, undone: imports and calls that configure it."""

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contained(*variables: str) -> Iterator[None]:
    """Put back, at the end, what the body changes for the whole program.

    The root logger's handlers (`logging.info` adds one where there is none), the filters of
    warnings, the state of Python's random numbers, and these environment variables. Not all
    variables: some are set by a library for its own use, and it breaks without them.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    state = random.getstate()
    before = {name: os.environ.get(name) for name in variables}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        random.setstate(state)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
