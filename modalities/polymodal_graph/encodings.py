"""Where a node is in its graph: encodings of its surroundings, for many graphs at once.

Graphs with the same number of nodes are worked through together, as dense matrices.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

LARGEST = 8192  # nodes of a graph: its matrices are dense
CELLS = 2**22  # of the matrices worked through at once


def random_walk(
    edges: Int[np.ndarray, "2 edge"], lengths: Sequence[int], size: int
) -> Float[np.ndarray, "node size"]:
    """Return the probability to be back after 1 ... `size` random steps (Dwivedi et al., 2022).

    Edges are packed over graphs of `lengths` nodes; steps follow them from source to target. A
    walk that can't go on is not back.
    """

    def returns(adjacency: Float[np.ndarray, "graph n n"]) -> Float[np.ndarray, "graph n size"]:
        degree = adjacency.sum(axis=2, keepdims=True)
        step = adjacency / np.maximum(degree, 1)
        walk, found = step, []
        for _ in range(size):
            found.append(np.diagonal(walk, axis1=1, axis2=2))
            walk = walk @ step
        return np.stack(found, axis=2)

    return _by_size(edges, lengths, size, returns)


def laplacian(
    edges: Int[np.ndarray, "2 edge"], lengths: Sequence[int], size: int
) -> Float[np.ndarray, "node size"]:
    """Return the eigenvectors of the normalised Laplacian for its `size` lowest eigenvalues.

    Without the very lowest (Dwivedi and Bresson, 2021, section 2.2); zeros where a graph has too
    few nodes. Edges count both ways, once, and self-loops not at all. An eigenvector's sign means
    nothing: here its largest entry is positive. Where eigenvalues coincide, so does any
    rotation of their eigenvectors.
    """

    def vectors(adjacency: Float[np.ndarray, "graph n n"]) -> Float[np.ndarray, "graph n size"]:
        count = adjacency.shape[1]
        both = np.minimum(adjacency + adjacency.transpose(0, 2, 1), 1)
        diagonal = np.arange(count)
        both[:, diagonal, diagonal] = 0
        scale = 1 / np.sqrt(np.maximum(both.sum(axis=2), 1))
        matrix = np.eye(count) - scale[:, :, None] * both * scale[:, None, :]
        found = np.linalg.eigh(matrix).eigenvectors[:, :, 1 : size + 1]
        largest = np.abs(found).argmax(axis=1)[:, None, :]
        found = found * np.where(np.take_along_axis(found, largest, axis=1) < 0, -1, 1)
        return np.pad(found, ((0, 0), (0, 0), (0, size - found.shape[2])))

    return _by_size(edges, lengths, size, vectors)


def _by_size(
    edges: Int[np.ndarray, "2 edge"],
    lengths: Sequence[int],
    size: int,
    encode: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "node size"]:
    counts = np.asarray(lengths, dtype=np.int64)
    offsets = np.concatenate([[0], counts.cumsum()])
    graph_of = np.arange(len(counts)).repeat(counts)
    out = np.zeros((offsets[-1], size), dtype=np.float32)
    edge_graph = graph_of[edges[0]]
    for count in np.unique(counts[counts > 0]).tolist():
        members = np.flatnonzero(counts == count)
        together = max(1, CELLS // count**2)
        for first in range(0, len(members), together):
            chosen = members[first : first + together]
            place = np.full(len(counts), -1)
            place[chosen] = np.arange(len(chosen))
            inside = place[edge_graph] >= 0
            here = edge_graph[inside]
            source, target = edges[:, inside] - offsets[here]
            cell = (place[here] * count + source) * count + target
            adjacency = np.bincount(cell, minlength=len(chosen) * count**2).astype(np.float64)
            rows = (offsets[chosen][:, None] + np.arange(count)).reshape(-1)
            out[rows] = encode(adjacency.reshape(-1, count, count)).reshape(-1, size)
    return out
