"""One graph of communities: a stochastic block model with features."""

from functools import cached_property
from typing import Any

import numpy as np

from polymodal import Sample, Source
from polymodal_graph import PART_FIELDS, Graph, LargeGraph, check_held, grown_parts


class Blocks(Source):
    """A graph whose nodes belong to blocks, joined more often within one than between two.

    Each pair of nodes is an edge (listed both ways) by chance (Holland et al., 1983). Features
    are the block's own direction, of `signal` times a normal draw, in unit noise. Neither says
    much alone: what can be learned is to gather what neighbours have in common.

    Fields are those of `graph.parts`: `graph`, `labels` (the blocks), `splits` ("none"), `nodes`,
    and pairs of nodes `train_edges`, `validation_edges`, `test_edges`.

    Args:
        blocks: how many.
        size: nodes of a block.
        within: chance of an edge between nodes of one block.
        between: chance of an edge between nodes of two.
        features: numbers a node has.
        signal: how far blocks' features lie apart.
        parts: rows the graph is cut into; 1 is the whole.
        validation_edges: share of the edges to hold out.
        test_edges: the same, further ones.
        seed: of everything drawn.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        *,
        blocks: int = 6,
        size: int = 100,
        within: float = 0.05,
        between: float = 0.006,
        features: int = 64,
        signal: float = 0.35,
        parts: int = 1,
        validation_edges: float = 0.0,
        test_edges: float = 0.0,
        seed: int = 0,
    ):
        if min(blocks, size, features, parts) < 1 or parts > blocks * size:
            raise ValueError(
                "blocks, size, features and parts must be at least 1, and parts no more than "
                f"nodes, got {blocks}, {size}, {features} and {parts}"
            )
        if not (0 <= within <= 1 and 0 <= between <= 1):
            raise ValueError(f"within and between must be chances, got {within} and {between}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        check_held(validation_edges, test_edges)
        self.blocks, self.size = blocks, size
        self.within, self.between = within, between
        self.features, self.signal = features, signal
        self.parts = parts
        self.held = (validation_edges, test_edges)
        self.seed = seed

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was drawn behind: a worker draws the same."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __len__(self) -> int:
        return self.parts

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return PART_FIELDS

    def row(self, index: int) -> Sample:
        """Return one part."""
        return self._rows[index]

    @cached_property
    def _rows(self) -> list[Sample]:
        whole = self._drawn().held_out(*self.held, seed=self.seed)
        members = grown_parts(
            whole.graph.edges, self.blocks * self.size, self.parts, seed=self.seed
        )
        return [whole.part(nodes) for nodes in members]

    def _drawn(self) -> LargeGraph:
        generator = np.random.default_rng([self.seed, 0])
        count = self.blocks * self.size
        labels = np.arange(self.blocks).repeat(self.size)
        found = []
        for node in range(count - 1):  # a row at a time: all pairs of 20,000 nodes take gigabytes
            others = labels[node + 1 :]
            chance = np.where(others == labels[node], self.within, self.between)
            near = node + 1 + np.flatnonzero(generator.random(len(others)) < chance)
            found.append(np.stack([np.full(len(near), node), near]))
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
        centres = self.signal * generator.standard_normal((self.blocks, self.features))
        values = centres[labels] + generator.standard_normal((count, self.features))
        graph = Graph(values.astype(np.float32), np.concatenate([pairs, pairs[::-1]], axis=1))
        return LargeGraph(graph, labels, np.full(count, "none", dtype=object))
