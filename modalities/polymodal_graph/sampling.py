"""Sampling neighbourhoods of a large graph, from compressed sparse rows in numpy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


class NeighbourSampler:
    """Samples what flows into a node: sources of its edges, their sources, and so on.

    Args:
        edges: of the whole graph, sources and targets.
        nodes: how many nodes it has.

    Raises:
        ValueError: an edge that points outside.
    """

    def __init__(self, edges: Int[np.ndarray, "2 edge"], nodes: int):
        if edges.size and (edges.min() < 0 or edges.max() >= nodes):
            raise ValueError(f"an edge points outside the graph's {nodes} nodes")
        self.order = np.argsort(edges[1], kind="stable")  # edge numbers, by target
        self.sources = edges[0][self.order]
        self.offsets = np.concatenate([[0], np.bincount(edges[1], minlength=nodes).cumsum()])

    def __call__(
        self,
        centre: int,
        fanouts: Sequence[int],
        generator: np.random.Generator,
        *,
        induced: bool = True,
    ) -> tuple[Int[np.ndarray, " node"], Int[np.ndarray, "2 kept"], Int[np.ndarray, " kept"]]:
        """Return the nodes (the centre first), the edges between them, and these edges' numbers.

        Hop h takes at most `fanouts[h]` different incoming edges of each node reached in the hop
        before; -1 takes all (Hamilton et al., GraphSAGE, 2017, section 3.1). The edges are all
        those between the nodes (`induced`), or only those taken. Edges are numbered by their
        places in the result's nodes.
        """
        nodes = np.array([centre], dtype=np.int64)
        frontier = nodes
        taken: list[np.ndarray] = []
        for fanout in fanouts:
            places = self._drawn(frontier, fanout, generator)
            taken.append(places)
            frontier = np.setdiff1d(self.sources[places], nodes)
            nodes = np.concatenate([nodes, frontier])
            if not len(frontier):
                break
        by_id = np.argsort(nodes)
        ids = nodes[by_id]
        if induced:
            places = self._all(nodes)
            at = np.searchsorted(ids, self.sources[places])
            places = places[ids[np.minimum(at, len(ids) - 1)] == self.sources[places]]
        else:
            places = np.concatenate([*taken, np.zeros(0, np.int64)])
        targets = np.searchsorted(self.offsets, places, side="right") - 1
        ends = np.stack([self.sources[places], targets])
        return nodes, by_id[np.searchsorted(ids, ends)], self.order[places]

    def _all(self, nodes: Int[np.ndarray, " node"]) -> Int[np.ndarray, " place"]:
        """Return the places of all incoming edges of these nodes."""
        starts = self.offsets[nodes]
        counts = self.offsets[nodes + 1] - starts
        shift = starts - (counts.cumsum() - counts)
        return np.arange(counts.sum()) + shift.repeat(counts)

    def _drawn(
        self, nodes: Int[np.ndarray, " node"], fanout: int, generator: np.random.Generator
    ) -> Int[np.ndarray, " place"]:
        """Return the places of at most `fanout` incoming edges of each, none twice."""
        if fanout < 0:
            return self._all(nodes)
        degree = self.offsets[nodes + 1] - self.offsets[nodes]
        few = self._all(nodes[degree <= fanout])
        many, degree = nodes[degree > fanout], degree[degree > fanout]
        # Floyd's sampling without repetition, for all nodes at once: its cost does not grow with
        # the degree, so that a hub costs no more than another node.
        chosen = np.empty((len(many), fanout), dtype=np.int64)
        for i in range(fanout):
            last = degree - fanout + i
            drawn = generator.integers(0, last + 1)
            seen = (chosen[:, :i] == drawn[:, None]).any(axis=1)
            chosen[:, i] = np.where(seen, last, drawn)
        return np.concatenate([few, (self.offsets[many][:, None] + chosen).reshape(-1)])
