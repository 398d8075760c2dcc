"""Laying the tokens of several layouts end to end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from polymodal.packed.layout import Layout


def chain_positions(layouts: Sequence["Layout"]) -> Tensor:
    """Return the positions of layouts laid end to end; axes that one lacks are zero there."""
    axes = max(each.positions.shape[1] for each in layouts)
    return torch.cat(
        [
            torch.nn.functional.pad(each.positions, (0, axes - each.positions.shape[1]))
            for each in layouts
        ]
    )


def chain_structure(layouts: Sequence["Layout"]) -> dict[str, Any]:
    """Return kinds, channels and edges of layouts laid end to end; what one lacks is zero there."""
    structure: dict[str, Any] = {"kinds": None, "channels": {}, "edges": None}
    if any(each.kinds is not None for each in layouts):
        structure["kinds"] = torch.cat(
            [_zeros(each, each.tokens) if each.kinds is None else each.kinds for each in layouts]
        )
    examples = {name: rows for each in layouts for name, rows in each.channels.items()}
    for name, example in examples.items():
        structure["channels"][name] = torch.cat(
            [
                each.channels.get(name, example.new_zeros(each.tokens, *example.shape[1:]))
                for each in layouts
            ]
        )
    if any(each.edges is not None for each in layouts):
        shifts = [sum(each.tokens for each in layouts[:i]) for i in range(len(layouts))]
        none = _zeros(layouts[0], 2, 0)
        edges = [none if each.edges is None else each.edges for each in layouts]
        structure["edges"] = torch.cat([e + s for e, s in zip(edges, shifts, strict=True)], dim=1)
        for name in ("edge_kinds", "edge_values"):
            found: list[Tensor | None] = [getattr(each, name) for each in layouts]
            known = next((rows for rows in found if rows is not None), None)
            if known is not None:
                structure[name] = torch.cat(
                    [
                        known.new_zeros(e.shape[1], *known.shape[1:]) if rows is None else rows
                        for rows, e in zip(found, edges, strict=True)
                    ]
                )
    return structure


def _zeros(layout: "Layout", *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=layout.device)
