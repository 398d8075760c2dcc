"""How likely each edge and feature is left out, by how central its nodes are (GCA).

What hangs on important nodes is kept more often (Zhu et al., 2021; chances as in its code, but for
PageRank).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Centrality = Literal["degree", "pagerank", "eigenvector"]

LIMIT = 0.7  # the highest chance to be left out (section 3.2, p_tau)


def centrality(
    edges: Int[np.ndarray, "2 edge"], nodes: int, kind: Centrality
) -> Float[np.ndarray, " node"]:
    """Return how central each node is: its degree, PageRank, or entry of the leading eigenvector.

    Degrees and eigenvectors take edges both ways, each once; PageRank (damping 0.85, 10 rounds from
    ones) follows them. It teleports to every node alike, as the paper's formula says; in its code
    a node keeps 0.15 of its own rank instead.
    """
    source, target = edges
    if kind == "pagerank":
        share = 1 / np.maximum(np.bincount(source, minlength=nodes), 1)
        rank: np.ndarray = np.ones(nodes)
        for _ in range(10):
            carried = np.bincount(target, (rank * share)[source], minlength=nodes)
            rank = 0.15 + 0.85 * carried
        return rank
    both = np.unique(np.concatenate([source * nodes + target, target * nodes + source]))
    source, target = np.divmod(both, max(nodes, 1))
    if kind == "degree":
        return np.bincount(target, minlength=nodes).astype(np.float64)
    vector = np.full(nodes, 1 / max(nodes, 1) ** 0.5)
    for _ in range(100):
        # The node itself counts too: else the rounds of a two-sided graph never settle.
        vector = vector + np.bincount(target, vector[source], minlength=nodes)
        vector /= max(float(np.linalg.norm(vector)), 1e-30)
    return vector


def edge_chances(
    edges: Int[np.ndarray, "2 edge"], central: Float[np.ndarray, " node"], share: float
) -> Float[np.ndarray, " edge"]:
    """Return each edge's chance to be left out, by its target; their mean is about `share`."""
    return _chances(central[edges[1]], share)


def feature_chances(
    values: Float[np.ndarray, "node feature"], central: Float[np.ndarray, " node"], share: float
) -> Float[np.ndarray, " feature"]:
    """Return each feature's chance to be left out, by how much of it central nodes have."""
    return _chances(np.abs(values).T @ central, share)


def _chances(importance: Float[np.ndarray, " item"], share: float) -> Float[np.ndarray, " item"]:
    """Return min(w / mean(w) * share, LIMIT) with w from the logarithms (eq. 2 and 3)."""
    chances = np.full(len(importance), share)
    some = importance > 0  # a feature that no node has can't matter
    logs = np.log(importance[some])
    if len(logs) and logs.max() > logs.min():
        weights = (logs.max() - logs) / (logs.max() - logs.mean())
        chances[some] = np.minimum(weights / weights.mean() * share, LIMIT)
    return chances
