import numpy as np
import pytest

pytest.importorskip("torch_geometric")
from torch_geometric.utils import degree, to_undirected

from polymodal_graph.adaptive import LIMIT, centrality, edge_chances, feature_chances
from polymodal_graph.graph import Graph
from polymodal_graph.nodes import GraphNodes

# A hub 0 with five leaves, of which two are joined; node 6 stands alone.
PAIRS = np.array([[0, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 2]])
EDGES = np.concatenate([PAIRS, PAIRS[::-1]], axis=1)


def test_degrees_count_both_ways_once():
    assert centrality(EDGES, 7, "degree").tolist() == [5, 2, 2, 1, 1, 1, 0]
    assert centrality(PAIRS, 7, "degree").tolist() == [5, 2, 2, 1, 1, 1, 0]


def test_eigenvectors_and_ranks_are_those_of_dense_matrices():
    matrix = np.zeros((7, 7))
    matrix[EDGES[1], EDGES[0]] = 1
    vector = np.abs(np.linalg.eigh(matrix)[1][:, -1])
    np.testing.assert_allclose(centrality(EDGES, 7, "eigenvector"), vector, atol=1e-6)
    step = matrix / np.maximum(matrix.sum(axis=0), 1)
    rank = np.ones(7)
    for _ in range(10):
        rank = 0.15 + 0.85 * step @ rank
    np.testing.assert_allclose(centrality(EDGES, 7, "pagerank"), rank)


def test_chances_follow_the_papers_formula():
    import torch

    edges = torch.tensor(EDGES)
    logs = degree(to_undirected(edges)[1], 7)[edges[1]].log()
    weights = (logs.max() - logs) / (logs.max() - logs.mean())
    wanted = (weights / weights.mean() * 0.3).clamp(max=LIMIT)
    found = edge_chances(EDGES, centrality(EDGES, 7, "degree"), 0.3)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)
    assert found[EDGES[1] == 0].max() == 0  # what leads to the hub stays
    # Features that central nodes have stay; one that no node has costs nothing.
    values = np.zeros((7, 4), np.float32)
    values[0, 0], values[3, 1], values[6, 2] = 2, -1, 1
    logs = np.log([10, 1])
    values[6, 2] = 0
    chances = feature_chances(values, centrality(EDGES, 7, "degree"), 0.2)
    weights = (logs.max() - logs) / (logs.max() - logs.mean())
    np.testing.assert_allclose(chances[:2], np.minimum(weights / weights.mean() * 0.2, LIMIT))
    assert np.isfinite(chances).all()


def test_equal_nodes_have_equal_chances():
    ring = np.array([[0, 1, 2], [1, 2, 0]])
    for kind in ("degree", "pagerank", "eigenvector"):
        np.testing.assert_allclose(edge_chances(ring, centrality(ring, 3, kind), 0.4), 0.4)
    none = np.zeros((2, 0), np.int64)
    assert edge_chances(none, centrality(none, 0, "eigenvector"), 0.4).shape == (0,)


def drawn(graph, count=400, **options):
    tokenizer = GraphNodes(features=graph.nodes.shape[1], **options)
    return [
        tokenizer.encode([graph], generators=[np.random.default_rng(seed)]) for seed in range(count)
    ]


def test_whole_features_go_in_all_nodes_of_a_graph_and_each_graph_has_its_own():
    graph = Graph(np.ones((7, 40), np.float32), EDGES)
    tokenizer = GraphNodes(features=40, drop_features=0.25)
    generators = [np.random.default_rng(seed) for seed in (0, 1, 2)]
    tokens = tokenizer.encode([graph, None, graph], generators=generators)
    first, second = tokens.values[:7], tokens.values[7:]
    assert (first == first[0]).all() and (second == second[0]).all()
    assert not (first[0] == second[0]).all()
    shares = [1 - t.values[0].mean().item() for t in drawn(graph, drop_features=0.25)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)
    assert (tokenizer.encode([graph]).values == 1).all()  # evaluation drops nothing


def test_directions_go_together_or_each_by_itself():
    graph = Graph(np.ones((7, 2), np.float32), EDGES)
    lone = {True: 0, False: 0}
    for both in lone:
        for tokens in drawn(graph, drop_edges=0.4, drop_both=both):
            left = {tuple(edge) for edge in tokens.layout.edges.T.tolist()}
            lone[both] += sum((b, a) not in left for a, b in left)
    assert lone[True] == 0 and lone[False] > 400
    with pytest.raises(ValueError, match="drop_both"):
        GraphNodes(features=2, undirected=True, drop_edges=0.1, drop_both=False)


def test_edges_are_dropped_as_often_as_their_chance():
    graph = Graph(np.ones((7, 2), np.float32), EDGES)
    chances = edge_chances(EDGES, centrality(EDGES, 7, "pagerank"), 0.3)
    seen = np.zeros((7, 7))
    found = drawn(graph, count=1500, drop_edges=0.3, drop_both=False, drop_by="pagerank")
    for tokens in found:
        source, target = tokens.layout.edges.numpy()
        seen[source, target] += 1
    np.testing.assert_allclose(1 - seen[EDGES[0], EDGES[1]] / 1500, chances, atol=0.05)


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="drop_features"):
        GraphNodes(features=2, drop_features=1.0)
    with pytest.raises(ValueError, match="have ids"):
        GraphNodes(vocabulary=2, drop_features=0.1)
    with pytest.raises(ValueError, match="drop_by"):
        GraphNodes(features=2, drop_by="closeness")
