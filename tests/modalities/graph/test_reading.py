import json

import numpy as np
import pytest
import torch

from polymodal import UnreadableError

pytest.importorskip("torch_geometric")

from polymodal_graph.graph import Graph, from_pyg, to_pyg
from polymodal_graph.pyg import Data
from polymodal_graph.reading import GraphReader

EDGES = [[0, 1, 2], [1, 2, 0]]
FEATURES = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def test_every_form_of_a_graph_reads_the_same(tmp_path):
    pairs = {"nodes": FEATURES, "edge_list": [[0, 1], [1, 2], [2, 0]], "edge_kinds": [0, 1, 0]}
    path = tmp_path / "ring.json"
    path.write_text(json.dumps(pairs))
    forms = [
        pairs,
        {"x": np.array(FEATURES), "edge_index": np.array(EDGES), "edge_attr": np.array([0, 1, 0])},
        {"node_feat": torch.tensor(FEATURES), "edges": EDGES, "edge_type": [0, 1, 0]},
        json.dumps(pairs),
        json.dumps(pairs).encode(),
        str(path),
        path,
        {"path": str(path), "bytes": None},
        {"path": None, "bytes": path.read_bytes()},
        Data(
            x=torch.tensor(FEATURES),
            edge_index=torch.tensor(EDGES),
            edge_attr=torch.tensor([[0], [1], [0]]),
        ),
    ]
    for form in forms:
        graph = GraphReader()(form)
        assert graph.nodes.tolist() == FEATURES
        assert graph.nodes.dtype == np.float32
        assert graph.edges.tolist() == EDGES
        assert graph.edge_kinds.tolist() == [0, 1, 0]
    assert GraphReader()(graph) is graph


def test_whole_numbers_in_one_column_are_ids():
    assert GraphReader()({"node_ids": [4, 2], "edges": []}).nodes.tolist() == [4, 2]
    assert GraphReader()({"x": [[4], [2]], "edges": []}).nodes.tolist() == [4, 2]
    assert GraphReader()({"x": [[4, 1], [2, 0]], "edges": []}).nodes.dtype == np.float32


def test_nodes_that_are_not_listed_have_the_id_zero():
    assert GraphReader()({"num_nodes": 3, "edges": []}).nodes.tolist() == [0, 0, 0]
    assert GraphReader()({"edges": [[0, 4], [1, 2]]}).nodes.tolist() == [0] * 5
    assert from_pyg(Data(edge_index=torch.tensor(EDGES), num_nodes=4)).nodes.tolist() == [0] * 4


def test_a_graph_without_edges_is_a_graph():
    for none in ([], [[], []], np.zeros((2, 0))):
        graph = GraphReader()({"x": FEATURES, "edges": none})
        assert graph.edges.shape == (2, 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "got int"),
        ({}, "NoneType"),
        ("{broken", "not JSON"),
        ("[1, 2]", "must be an object"),
        ("nowhere.json", r"nowhere\.json: No such file"),
        ({"x": FEATURES}, "needs edges"),
        ({"x": FEATURES, "edges": [[0, 1], [1, 2], [2, 0]]}, "edge_list"),
        ({"x": FEATURES, "edge_list": [[0, 1, 2]]}, "pairs"),
        ({"x": FEATURES, "edges": [[0.5], [1]]}, "whole numbers"),
        ({"x": FEATURES, "edges": [["a"], ["b"]]}, "must be numbers"),
        ({"x": [[1.0], [1.0, 2.0]], "edges": []}, "no array"),
        ({"x": FEATURES, "node_ids": [1, 2, 3], "edges": []}, "one of"),
        ({"x": FEATURES, "edges": EDGES, "edge_kinds": [1]}, r"int64 \[3\]"),
        ({"x": FEATURES, "edges": EDGES, "edge_values": [[1.0]]}, r"float32 \[3, feature\]"),
        ({"num_nodes": -1, "edges": []}, "negative"),
        ({"num_nodes": [], "edges": []}, "int"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_reason(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        GraphReader()(value)


@pytest.mark.parametrize("nodes", [np.array([3, 1], np.int64), np.ones((2, 3), np.float32)])
def test_pytorch_geometric_and_back_is_the_same_graph(nodes):
    graph = Graph(
        nodes,
        np.array([[0], [1]]),
        np.array([7]),
        np.array([[0.5, 0.25]], np.float32),
    )
    data = to_pyg(graph)
    data.validate(raise_on_error=True)
    assert data.num_nodes == 2
    back = from_pyg(data)
    for name in ("nodes", "edges", "edge_kinds", "edge_values"):
        assert np.array_equal(getattr(back, name), getattr(graph, name))
        assert getattr(back, name).dtype == getattr(graph, name).dtype
