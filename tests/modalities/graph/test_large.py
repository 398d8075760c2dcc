import pickle

import numpy as np
import pytest

pytest.importorskip("torch_geometric")
from torch_geometric.utils import subgraph, to_undirected

from polymodal import DataError
from polymodal_graph.graph import Graph
from polymodal_graph.large import LargeGraph, grown_parts, undirected
from polymodal_graph.neighbourhoods import NeighbourhoodSource
from polymodal_graph.parts import PartSource


def ring(count, chords=0, loops=()):
    """A ring of nodes, some chords and loops, every pair both ways."""
    near = np.arange(count)
    far = np.random.default_rng(0).integers(0, count, (2, chords))
    far = far[:, far[0] != far[1]]
    pairs = np.concatenate([np.stack([near, (near + 1) % count]), far], axis=1)
    pairs = np.unique(np.sort(pairs, axis=0), axis=1)
    return np.concatenate([pairs, pairs[::-1], np.array([loops, loops], np.int64)], axis=1)


def large(count=30, chords=20, loops=()):
    edges = ring(count, chords, loops)
    kinds = edges[0] * 100 + edges[1]
    features = np.arange(count, dtype=np.float32)[:, None]
    splits = np.array(["train", "test"], dtype=object)[np.arange(count) % 2]
    return LargeGraph(Graph(features, edges, kinds), np.arange(count) % 3, splits)


def as_set(pairs):
    return {tuple(sorted(pair)) for pair in pairs.T.tolist()}


def test_edges_held_out_are_gone_both_ways_and_no_pair_is_held_twice():
    whole = large(loops=(3, 4))
    held = whole.held_out(0.1, 0.2)
    left, parts = as_set(held.graph.edges), {n: as_set(p) for n, p in held.held.items()}
    every = as_set(whole.graph.edges)
    pairs = len(every) - 2  # loops stay
    assert len(parts["validation"]) == round(0.1 * pairs)
    assert len(parts["validation"]) + len(parts["test"]) == round(0.3 * pairs)
    assert left | parts["validation"] | parts["test"] == every
    assert len(left) + len(parts["validation"]) + len(parts["test"]) == len(every)
    assert {(3, 3), (4, 4)} <= left
    edges = held.graph.edges
    assert (held.graph.edge_kinds == edges[0] * 100 + edges[1]).all()
    assert as_set(whole.held_out(0.1, 0.2, seed=1).held["test"]) != parts["test"]
    assert whole.held_out(0, 0) is whole
    with pytest.raises(ValueError, match="leave some edges"):
        whole.held_out(0.5, 0.5)


def test_a_part_is_the_induced_subgraph_with_what_is_known_of_its_nodes():
    import torch

    held = large().held_out(0.1, 0.2)
    nodes = np.array([2, 3, 4, 5, 11, 17, 20])
    row = held.part(nodes)
    wanted, _ = subgraph(
        torch.tensor(nodes), torch.tensor(held.graph.edges), relabel_nodes=True, num_nodes=30
    )
    graph = row["graph"]
    assert {tuple(e) for e in graph.edges.T.tolist()} == {tuple(e) for e in wanted.T.tolist()}
    assert graph.nodes[:, 0].tolist() == nodes.tolist() == row["nodes"].tolist()
    assert row["labels"].tolist() == (nodes % 3).tolist()
    assert (graph.edge_kinds == nodes[graph.edges[0]] * 100 + nodes[graph.edges[1]]).all()
    assert as_set(row["train_edges"]) == as_set(graph.edges)
    for name in ("validation", "test"):
        inside = {p for p in as_set(held.held[name]) if set(p) <= set(nodes.tolist())}
        assert as_set(nodes[row[f"{name}_edges"]]) == inside


def test_undirected_graphs_are_pytorch_geometrics():
    import torch

    edges = np.array([[0, 1, 2, 3, 3], [1, 0, 3, 3, 1]])
    graph = undirected(Graph(np.zeros((4, 1), np.float32), edges, edges.sum(axis=0)))
    wanted = to_undirected(torch.tensor(edges))
    assert sorted(graph.edges.T.tolist()) == sorted(wanted.T.tolist())
    assert (graph.edge_kinds == graph.edges.sum(axis=0)).all()


@pytest.mark.parametrize("parts", [1, 4, 7, 30])
def test_parts_share_out_all_nodes_evenly(parts):
    found = grown_parts(ring(30, 10), 30, parts)
    assert sorted(np.concatenate(found).tolist()) == list(range(30))
    sizes = {len(members) for members in found}
    assert max(sizes) - min(sizes) <= 1


def test_parts_hang_together_and_lone_nodes_have_their_place():
    edges = ring(40)
    inside = sum(np.isin(edges, members).all(axis=0).sum() for members in grown_parts(edges, 43, 5))
    # A ring cut at random into five would keep a fifth of its edges.
    assert inside > 0.7 * edges.shape[1]


@pytest.fixture
def file(tmp_path):
    whole = large()
    path = tmp_path / "graph.npz"
    masks = {"train_mask": whole.splits == "train", "test_mask": whole.splits == "test"}
    np.savez(path, edge_index=whole.graph.edges, x=whole.graph.nodes, y=whole.labels, **masks)
    return str(path)


def test_one_part_is_the_whole_graph(file):
    source = pickle.loads(pickle.dumps(PartSource(file)))
    assert len(source) == 1
    row = source.row(0)
    assert np.array_equal(row["graph"].edges, large().graph.edges)
    assert row["splits"].tolist() == large().splits.tolist()
    assert set(row) == set(source.columns())
    assert row["test_edges"].shape == (2, 0)


def test_parts_and_neighbourhoods_hold_the_same_edges_out(file):
    options = {"validation_edges": 0.1, "test_edges": 0.2, "seed": 5}
    row = PartSource(file, **options).row(0)
    near = NeighbourhoodSource(file, fanouts=[-1], subgraph="sampled", **options)
    held = as_set(row["validation_edges"]) | as_set(row["test_edges"])
    found = {
        (node, int(other)) for node in range(30) for other in near.row(node)["graph"].nodes[1:, 0]
    }
    assert {tuple(sorted(pair)) for pair in found} == as_set(row["train_edges"])
    assert not as_set(row["train_edges"]) & held
    assert len(held) == round(0.3 * len(as_set(large().graph.edges)))


def test_what_can_not_be_cut_is_refused(file):
    with pytest.raises(ValueError, match="parts"):
        PartSource(file, parts=0)
    with pytest.raises(ValueError, match="validation_edges and test_edges"):
        NeighbourhoodSource(file, test_edges=1.0)
    with pytest.raises(DataError, match="30 nodes can't be cut into 31 parts"):
        PartSource(file, parts=31).row(0)
