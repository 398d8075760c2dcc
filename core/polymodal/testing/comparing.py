"""Whether two results are the same, and whether global random state was left alone."""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.interfaces.objective import Loss
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Tokens
from polymodal.testing.registry import ConformanceError

PACKING_TOLERANCE = 1e-6


def same(first: Any, second: Any) -> bool:
    """Return whether two values are equal, arrays and dataclasses included; NaN equals NaN."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and first.dtype == second.dtype and bool(
            torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
            if first.is_floating_point() else torch.equal(first, second)
        )  # fmt: skip
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if first.dtype.kind == "O":
            return all(same(a, b) for a, b in zip(first.flat, second.flat, strict=True))
        return bool(np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"))
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        return first == second or (first != first and second != second)
    if isinstance(first, str | bytes | int | bool | None | Set):
        return bool(first == second)
    if isinstance(first, Mapping):
        return set(first) == set(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, Sequence):
        return len(first) == len(second) and all(
            same(a, b) for a, b in zip(first, second, strict=True)
        )
    if dataclasses.is_dataclass(first):
        return all(
            same(getattr(first, each.name), getattr(second, each.name))
            for each in dataclasses.fields(first)
        )
    if isinstance(first, BaseException):
        return str(first) == str(second)
    if hasattr(first, "tobytes") and hasattr(first, "size"):  # Pillow's images
        return bool(first.size == second.size and first.tobytes() == second.tobytes())
    equal = first == second
    # An object that does not say what equality is has only its attributes to go by.
    return bool(equal) if equal is True else same(vars(first), vars(second))


def distance(first: Tensor, second: Tensor) -> float:
    """Return the largest difference, relative to the largest number where that is above 1."""
    if first.shape != second.shape:
        return float("inf")
    if not first.numel():
        return 0.0
    first, second = first.detach().double(), second.detach().double()
    if not torch.equal(first.isnan(), second.isnan()):
        return float("inf")
    gap = float((first - second).nan_to_num(0, torch.inf, torch.inf).abs().max())
    return gap / max(float(second[second.isfinite()].abs().amax()) if bool(second.isfinite().any())
                     else 0.0, 1.0)  # fmt: skip


def layout_difference(first: Layout, second: Layout) -> str | None:
    """Return the part of two layouts that differs, or None."""
    for name in ("lengths", "samples", "owners"):
        if getattr(first, name) != getattr(second, name):
            return name
    if not _equal_kinds(first.kinds, second.kinds):
        return "kinds"
    if distance(first.positions, second.positions) > PACKING_TOLERANCE:
        return "positions"
    for name in {*first.channels, *second.channels}:
        one, other = first.channels.get(name), second.channels.get(name)
        if one is None or other is None:
            if first.tokens:
                return f"channel {name}"
        elif distance(one, other) > PACKING_TOLERANCE:
            return f"channel {name}"
    return _edge_difference(first, second)


def _equal_kinds(first: Tensor | None, second: Tensor | None) -> bool:
    """Return whether two are equal; left out and all zeros mean the same."""
    if first is None or second is None:
        other = second if first is None else first
        return other is None or not bool(other.any())
    return torch.equal(first, second)


def _edge_difference(first: Layout, second: Layout) -> str | None:
    """Compare edges whatever their order."""
    (a, a_kinds, a_values), (b, b_kinds, b_values) = _sorted_edges(first), _sorted_edges(second)
    if not torch.equal(a, b):
        return "edges"
    if not _equal_kinds(a_kinds, b_kinds):
        return "edge_kinds"
    if a_values is None or b_values is None:
        return "edge_values" if a.shape[1] and a_values is not b_values else None
    return "edge_values" if distance(a_values, b_values) > PACKING_TOLERANCE else None


def _sorted_edges(layout: Layout) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if layout.edges is None:
        return torch.zeros(2, 0, dtype=torch.int64), None, None
    order = (layout.edges[0] * layout.tokens + layout.edges[1]).argsort(stable=True)
    kinds, values = layout.edge_kinds, layout.edge_values
    return (
        layout.edges[:, order],
        None if kinds is None else kinds[order],
        None if values is None else values[order],
    )


def tokens_difference(first: Tokens, second: Tokens) -> str | None:
    """Return the part of two batches of tokens that differs beyond 1e-6, or None."""
    found = layout_difference(first.layout, second.layout)
    if found is not None:
        return found
    if (first.ids is None) != (second.ids is None):
        return "ids and values"
    if first.layout.tokens and distance(first.rows, second.rows) > PACKING_TOLERANCE:
        return "values" if first.ids is None else "ids"
    return None


def _states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 # what a component must not read
    return {
        "Python's random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state().tolist(),
    }


def _set_states(states: Mapping[str, Any]) -> None:
    random.setstate(states["Python's random"])
    np.random.set_state(states["numpy.random"])  # noqa: NPY002
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))


def seed_everything(seed: int) -> None:
    """Set every global random state; only within `random_state_kept`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 # what a component must not read
    torch.manual_seed(seed)


@contextmanager
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """Put the global random states back at the end; begin with this seed, if given."""
    before = _states()
    try:
        if seed is not None:
            seed_everything(seed)
        yield
    finally:
        _set_states(before)


@contextmanager
def random_state_untouched(what: str) -> Iterator[None]:
    """Refuse a body that draws from global random state or sets it.

    Raises:
        ConformanceError: which state changed.
    """
    with random_state_kept(20_240_229):  # a state that no component would set by chance
        before = _states()
        yield
        for name, state in _states().items():
            if state != before[name]:
                raise ConformanceError(
                    f"{what} changes the global random state of {name}: draw from the generator "
                    "given, or from `step.uniform`, and set no seeds"
                )


def plain(value: float | Tensor) -> float:
    """Return a number without its graph."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def far(found: float, wanted: float, tolerance: float = PACKING_TOLERANCE) -> bool:
    """Whether two numbers differ by more than rounding; NaN is far from all."""
    return not abs(found - wanted) <= tolerance * max(abs(wanted), 1.0)


def figures(loss: Loss) -> tuple[float, float]:
    """Return total and count."""
    return plain(loss.total), plain(loss.count)
