"""What checks of encoders, fusions and objectives share: gradients, training, saved state."""

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Encoded, Tokens
from polymodal.testing.registry import ConformanceError
from polymodal.testing.toys import ordinary_ids

HALVES = (torch.bfloat16, torch.float16)


def changed(tokens: Tokens, rows: Tensor, spec: TokenSpec, *, seed: int = 99) -> Tokens:
    """Return tokens with other content in these rows: other ordinary ids, or other values."""
    generator = torch.Generator().manual_seed(seed)
    if tokens.ids is not None:
        ordinary = torch.tensor(ordinary_ids(spec))
        shift = torch.randint(1, max(len(ordinary), 2), (len(rows),), generator=generator)
        place = torch.searchsorted(ordinary, tokens.ids[rows]).clamp(max=len(ordinary) - 1)
        return tokens.with_rows(
            tokens.ids.index_copy(0, rows, ordinary[(place + shift) % len(ordinary)])
        )
    values = tokens.rows
    new = torch.randn(len(rows), values.shape[1], generator=generator).to(values.dtype)
    return tokens.with_rows(values.index_copy(0, rows, new))


def wide(tokens: Tokens) -> Tokens:
    """Return the tokens in float64."""
    edge_values = tokens.layout.edge_values
    if edge_values is not None:
        layout = replace(tokens.layout, edge_values=edge_values.double())
        tokens = tokens.with_rows(tokens.rows, layout)
    return tokens if tokens.values is None else tokens.with_rows(tokens.values.double())


def rows_of(tokens: Tokens, sample: int) -> Tensor:
    """Return the rows of one sample."""
    return (tokens.layout.sample == sample).nonzero()[:, 0]


def scalar(parts: Iterable[Encoded]) -> Tensor:
    """Return a number that depends on every vector, pooled ones included."""
    terms = []
    for part in parts:
        for rows in (part.vectors, part.pooled):
            generator = torch.Generator().manual_seed(rows.shape[1])
            weights = torch.randn(rows.shape, generator=generator).to(rows.dtype)
            terms.append((rows * weights).sum())
    return torch.stack(terms).sum()


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def require_gradients(module: nn.Module, passes: Iterable[Callable[[], Tensor]]) -> None:
    """Refuse a module with a parameter whose gradient stays zero over these passes.

    Raises:
        ConformanceError: which parameters.
    """
    parameters = trainable(module)
    reached: set[str] = set()
    for each in passes:
        module.zero_grad(set_to_none=True)
        each().backward()
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if gradient is not None and not bool(gradient.isfinite().all()):
                raise ConformanceError(f"the gradient of {name} is NaN or infinite")
            if gradient is not None and bool(gradient.any()):
                reached.add(name)
    never = [name for name in parameters if name not in reached]
    if never:
        raise ConformanceError(
            f"parameters that never get a gradient: {', '.join(never[:8])}"
            f"{' ...' if len(never) > 8 else ''}. Use them, remove them, or set requires_grad False"
        )


def require_finite_gradients(module: nn.Module, total: Tensor, when: str) -> None:
    """Refuse a backward pass that fails, leaves a parameter out, or gives NaN.

    Raises:
        ConformanceError: what happened.
    """
    parameters = trainable(module)
    if not parameters:
        return
    if not total.requires_grad:
        raise ConformanceError(
            f"{when} the result hangs on no parameter: do the same passes over zero rows, so that "
            "ranks with and without data stay in step"
        )
    module.zero_grad(set_to_none=True)
    total.backward()
    missing = [name for name, p in parameters.items() if p.grad is None]
    if missing:
        raise ConformanceError(
            f"{when} these parameters get no gradient, not even zero: {', '.join(missing[:8])}"
        )
    bad = [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
    if bad:
        raise ConformanceError(f"{when} the gradient of {', '.join(bad[:8])} is NaN")


def descend(module: nn.Module, total: Tensor, *, rate: float = 0.05) -> None:
    """Move every parameter a little down its gradient."""
    module.zero_grad(set_to_none=True)
    total.backward()
    with torch.no_grad():
        for parameter in trainable(module).values():
            if parameter.grad is not None:
                norm = parameter.grad.norm().clamp(min=1e-12)
                parameter.sub_(rate * parameter.grad / norm)


def through_a_file(module: nn.Module, fresh: nn.Module) -> None:
    """Load a module's state into a fresh one, as a checkpoint would.

    Raises:
        ConformanceError: the names or shapes differ.
    """
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    try:
        fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    except RuntimeError as error:
        raise ConformanceError(
            f"a fresh instance refuses the saved state: {error}. Make every buffer and parameter "
            "in the constructor"
        ) from error


def check_encoded(found: Any, layout: Layout, width: int, what: str) -> Encoded:
    """Return what was encoded from tokens of this layout if its shapes and numbers are right.

    Raises:
        ConformanceError: what is wrong with it.
    """
    tokens, segments = layout.tokens, layout.segments
    if not isinstance(found, Encoded):
        raise ConformanceError(f"{what} must return Encoded, got {type(found).__name__}")
    if found.layout.segments != segments:
        raise ConformanceError(
            f"{what} returns {found.layout.segments} segments for {segments} of its input"
        )
    if found.source is None and found.layout.tokens != tokens:
        raise ConformanceError(
            f"{what} returns {found.layout.tokens} vectors for {tokens} tokens: an encoder that "
            "changes lengths must say where tokens went in `source`"
        )
    if found.source is None and found.layout.lengths != layout.lengths:
        raise ConformanceError(
            f"{what} returns segments of lengths {list(found.layout.lengths)} for lengths "
            f"{list(layout.lengths)}: vectors must stand in the order of the tokens"
        )
    if found.layout.owners != layout.owners or found.layout.samples != layout.samples:
        raise ConformanceError(f"{what} changes which sample a segment belongs to")
    if found.source is not None:
        _check_source(found, found.source, layout, what)
    for name, rows in {"vectors": found.vectors, "pooled": found.pooled}.items():
        if rows.dim() != 2 or rows.shape[1] != width:
            raise ConformanceError(
                f"{what}: {name} have shape {list(rows.shape)}, but `width` says {width}"
            )
        if not bool(rows.isfinite().all()):
            raise ConformanceError(f"{what}: {name} hold NaN or infinity")
    empty = torch.tensor([length == 0 for length in found.layout.lengths], dtype=torch.bool)
    if bool(found.pooled[empty].any()):
        raise ConformanceError(f"{what}: pooled must be zero where a segment is empty")
    try:
        found.layout.validate()
    except ValueError as error:
        raise ConformanceError(f"{what}: {error}") from error
    return found


def _check_source(found: Encoded, source: Tensor, layout: Layout, what: str) -> None:
    if len(source) != layout.tokens:
        raise ConformanceError(
            f"{what}: `source` has {len(source)} rows for {layout.tokens} tokens"
        )
    rows = found.layout.tokens
    if bool(((source < 0) | (source >= rows)).any()):
        raise ConformanceError(f"{what}: `source` names rows outside the {rows} there are")
    if len(source.unique()) < rows:
        raise ConformanceError(f"{what}: no token of the input went to some rows, as `source` says")
    if not torch.equal(found.layout.segment[source], layout.segment):
        raise ConformanceError(f"{what}: `source` takes tokens to rows of another segment")
