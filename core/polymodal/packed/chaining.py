"""Laying the tokens of several layouts end to end."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polymodal.packed.layout import Layout, offsets_of, ranges


def stack_layouts(layouts: Sequence[Layout]) -> Layout:
    """Return one layout with the samples of all, first to last."""
    if not layouts:
        raise ValueError("nothing to stack")
    first_sample = [sum(each.samples for each in layouts[:i]) for i in range(len(layouts))]
    owner = None
    if any(each.owner is not None for each in layouts):
        owner = [s + o for s, each in zip(first_sample, layouts, strict=True)
                 for o in each.owners]  # fmt: skip
    lengths = [length for each in layouts for length in each.lengths]
    return Layout.of(
        lengths,
        chain_positions(layouts),
        owner=owner,
        samples=sum(each.samples for each in layouts),
        **chain_structure(layouts),
    )


def join_layouts(layouts: Sequence[Layout]) -> tuple[Layout, Tensor, list[Tensor]]:
    """Chain several streams within each sample.

    Returns the layout (one segment a sample, channel "part" telling the stream a token came
    from), the order of the rows of all streams laid end to end, and, for each stream, where
    its tokens are now.
    """
    if not layouts:
        raise ValueError("nothing to join")
    samples = layouts[0].samples
    if any(each.samples != samples for each in layouts):
        raise ValueError(f"streams of {[each.samples for each in layouts]} samples can't join")
    device = layouts[0].device
    parts = [[0] * samples for _ in layouts]
    for part, each in zip(parts, layouts, strict=True):
        for sample, length in zip(each.owners, each.lengths, strict=True):
            part[sample] += length
    lengths = [sum(sizes) for sizes in zip(*parts, strict=True)]
    start = offsets_of(lengths, device)[:-1]
    places: list[Tensor] = []
    for part, each in zip(parts, layouts, strict=True):
        sizes = torch.tensor(part, dtype=torch.int64, device=device)
        # Where a segment starts among those of its sample.
        before, seen = [], [0] * samples
        for sample, length in zip(each.owners, each.lengths, strict=True):
            before.append(seen[sample])
            seen[sample] += length
        skip = torch.tensor(before, dtype=torch.int64, device=device)
        owner = torch.tensor(each.owners, dtype=torch.int64, device=device)
        places.append(ranges(start[owner] + skip, each.offsets.diff(), each.tokens))
        start = start + sizes
    place = torch.cat(places)
    order = torch.empty_like(place)
    order[place] = torch.arange(len(place), device=device)
    structure = chain_structure(layouts)
    part_of = [torch.full((each.tokens,), i) for i, each in enumerate(layouts)]
    channels = {**structure["channels"], "part": torch.cat(part_of).to(device)}
    structure["channels"] = {name: rows[order] for name, rows in channels.items()}
    if structure["kinds"] is not None:
        structure["kinds"] = structure["kinds"][order]
    if structure["edges"] is not None:
        structure["edges"] = place[structure["edges"]]
    layout = Layout.of(lengths, chain_positions(layouts)[order], **structure)
    return layout, order, places


def chain_positions(layouts: Sequence[Layout]) -> Tensor:
    """Return the positions of layouts laid end to end; axes that one lacks are zero there."""
    axes = max(each.positions.shape[1] for each in layouts)
    return torch.cat(
        [
            torch.nn.functional.pad(each.positions, (0, axes - each.positions.shape[1]))
            for each in layouts
        ]
    )


def chain_structure(layouts: Sequence[Layout]) -> dict[str, Any]:
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


def _zeros(layout: Layout, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=layout.device)
