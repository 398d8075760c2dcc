"""Whether tokens are what their spec says."""

import torch
from torch import Tensor

from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens
from polymodal.testing.registry import ConformanceError


def _in_range(name: str, rows: Tensor, bound: int) -> None:
    if rows.is_floating_point() or rows.dtype == torch.bool:
        raise ConformanceError(f"{name} must be whole numbers, got {rows.dtype}")
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < bound:
        raise ConformanceError(
            f"{name} run from {int(rows.min())} to {int(rows.max())}, but the spec bounds them "
            f"by {bound}"
        )


def require_rows(tokens: Tokens, spec: TokenSpec) -> None:
    """Refuse ids or values that the spec does not promise."""
    if spec.vocabulary:
        if tokens.ids is None:
            raise ConformanceError("the spec has a vocabulary, but the tokens have values")
        _in_range("ids", tokens.ids, spec.vocabulary)
        return
    if tokens.values is None:
        raise ConformanceError("the spec has features, but the tokens have ids")
    if tokens.values.dim() != 2 or tokens.values.shape[1] != spec.features:
        raise ConformanceError(
            f"values have shape {list(tokens.values.shape)}, but the spec says {spec.features} "
            "features a token"
        )
    if not tokens.values.is_floating_point():
        raise ConformanceError(f"values must be floating point, got {tokens.values.dtype}")
    if not bool(tokens.values.isfinite().all()):
        raise ConformanceError("values hold NaN or infinity: refuse such records in `check`")


def require_structure(tokens: Tokens, spec: TokenSpec) -> None:
    """Refuse positions, kinds and channels that the spec does not promise."""
    layout = tokens.layout
    if layout.positions.dim() != 2 or layout.positions.shape[1] != spec.axes:
        raise ConformanceError(
            f"positions have shape {list(layout.positions.shape)}, but the spec says {spec.axes} "
            "axes"
        )
    if layout.tokens and bool((layout.positions < 0).any()):
        raise ConformanceError("a position is negative")
    if spec.extent is not None:
        if len(spec.extent) != spec.axes:
            raise ConformanceError(f"extent {spec.extent} does not have {spec.axes} axes")
        for axis, bound in enumerate(spec.extent):
            column = layout.positions[:, axis]
            if len(column) and float(column.max()) >= bound:
                raise ConformanceError(
                    f"positions on axis {axis} reach {float(column.max()):g}, but the spec's "
                    f"extent says they stay below {bound}"
                )
    if layout.kinds is not None:
        _in_range("kinds", layout.kinds, len(spec.kinds))
    for name, count in spec.channels.items():
        if name in layout.channels:
            _in_range(f"channel {name!r}", layout.channels[name], count)
        elif layout.tokens:
            raise ConformanceError(f"the spec promises a channel {name!r}, the tokens lack it")
    for name in spec.structure:
        if name not in layout.channels and layout.tokens:
            raise ConformanceError(f"the spec promises the structure {name!r}, the tokens lack it")
    unknown = sorted(set(layout.channels) - {*spec.channels, *spec.structure})
    if unknown:
        raise ConformanceError(f"the tokens have channels the spec does not name: {unknown}")


def require_edges(tokens: Tokens, spec: TokenSpec) -> None:
    """Refuse edges that the spec does not promise."""
    layout = tokens.layout
    if not spec.edges:
        if layout.edges is not None:
            raise ConformanceError("the tokens have edges, but spec.edges is False")
        return
    if layout.edges is None:
        if layout.tokens:
            raise ConformanceError("spec.edges is True, but the tokens have no edges")
        return
    if layout.edge_kinds is not None:
        _in_range("edge_kinds", layout.edge_kinds, max(spec.edge_kinds, 1))
    elif spec.edge_kinds and layout.edges.shape[1]:
        raise ConformanceError("the spec promises edge_kinds, the edges have none")
    width = None if layout.edge_values is None else layout.edge_values.shape[1]
    if (width or 0) != spec.edge_features and layout.edges.shape[1]:
        raise ConformanceError(
            f"edge_values have {width} features, but the spec says {spec.edge_features}"
        )
