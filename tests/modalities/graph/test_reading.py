import json
import warnings

import numpy as np
import pytest
import torch

from polymodal import UnreadableError

pytest.importorskip("torch_geometric")

from polymodal_graph.graph import Graph, from_pyg, to_pyg
from polymodal_graph.pyg import Batch, Data, HeteroData
from polymodal_graph.reading import GraphReader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_geometric.transforms import ToSparseTensor

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
    assert GraphReader()({"edge_index": [[0, 4], [1, 2]]}).nodes.tolist() == [0] * 5
    assert from_pyg(Data(edge_index=torch.tensor(EDGES), num_nodes=4)).nodes.tolist() == [0] * 4


def test_a_graph_without_edges_is_a_graph():
    for none in ([], [[], []], np.zeros((2, 0))):
        graph = GraphReader()({"x": FEATURES, "edges": none})
        assert graph.edges.shape == (2, 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "got int"),
        ({}, "needs .bytes. or .path."),
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
        ({"num_nodes": 1.5, "edges": []}, "whole number"),
        ({"num_nodes": float("inf"), "edges": []}, "infinity"),
        ({"num_nodes": 10**12, "edges": []}, "num_nodes must lie"),
        ({"edges": [[0], [10**12]]}, "must be listed"),
        ({"x": FEATURES, "edges": [[1e300], [0]]}, "below 2"),
        ({"x": FEATURES, "edges": [[0, 1]]}, "edge_list"),
        ({"x": FEATURES, "edges": [[0, 1], [2, 0]]}, "could be two pairs"),
        ({"path": "x.json", "bytes": 10}, "must be bytes, got int"),
        ({"path": None, "bytes": "{}"}, "must be bytes, got str"),
        ("a\0b.json", "is no path"),
        ("a" * 5000, "File name too long"),
        (b'{"edges": [], "note": "\xe9"}', "not UTF-8: byte 0xe9 at position 23"),
        (HeteroData(), r"to_homogeneous\(\)"),
        (Batch.from_data_list([Data(x=torch.ones(1, 1))] * 2), r"2 graphs.*to_data_list"),
        (Data(x=torch.ones(2, 1), adj=torch.ones(2, 2)), "has adj, but neither"),
        (Data(x=torch.ones(2, 1), face=torch.ones(3, 1)), "has face, but neither"),
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


LAYOUTS = [torch.sparse_coo, torch.sparse_csr]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weights", ["edge_weight", "edge_attr"])
def test_a_sparse_matrix_in_place_of_edges_gives_the_same_edges(layout, weights):
    more = {weights: torch.tensor([0.5, 0.25, 2.0])}
    data = Data(x=torch.tensor(FEATURES), edge_index=torch.tensor([[0, 1, 2], [1, 2, 1]]), **more)
    plain = from_pyg(data)
    sparse = from_pyg(ToSparseTensor(layout=layout, remove_edge_index=True)(data.clone()))

    def weighted(graph):
        return sorted(zip(*graph.edges.tolist(), graph.edge_values[:, 0].tolist(), strict=True))

    assert weighted(plain) == weighted(sparse) == [(0, 1, 0.5), (1, 2, 0.25), (2, 1, 2.0)]


def test_a_class_made_of_data_is_read_as_data():
    class Molecule(Data):
        pass

    graph = GraphReader()(Molecule(x=torch.tensor(FEATURES), edge_index=torch.tensor(EDGES)))
    assert graph.edges.tolist() == EDGES


def test_paths_are_the_strings_that_are_no_json():
    read = GraphReader()
    assert read.paths_in("a.json") == ["a.json"] == read.paths_in({"path": "a.json"})
    assert read.paths_in('\ufeff {"edges": []}') == []
    assert read.paths_in({"path": "{a.json"}) == ["{a.json"]  # a name, whatever it begins with
    assert read.paths_in({"path": "a.json", "bytes": b"{}"}) == []
