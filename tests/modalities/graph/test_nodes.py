import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from polymodal import UnreadableError

pytest.importorskip("torch_geometric")
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_geometric.data import Batch
    from torch_geometric.transforms import AddLaplacianEigenvectorPE, AddRandomWalkPE

from polymodal_graph.graph import Graph, to_pyg
from polymodal_graph.nodes import GraphNodes


def graph(nodes, edges, *, features=2, kinds=None, values=None, seed=0, ids=None):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(nodes, features)).astype(np.float32)
    if ids is not None:
        rows = np.array(ids, dtype=np.int64)
    links = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return Graph(
        rows,
        links,
        None if kinds is None else np.array(kinds, dtype=np.int64),
        None if values is None else np.array(values, dtype=np.float32).reshape(-1, 1),
    )


def path_graph(nodes, **options):
    pairs = [(i, i + 1) for i in range(nodes - 1)]
    return graph(nodes, pairs + [(b, a) for a, b in pairs], **options)


def test_a_batch_is_pytorch_geometrics_batch():
    graphs = [
        graph(3, [(0, 1), (2, 0)], kinds=[1, 0], values=[0.5, 1]),
        graph(1, [], kinds=[], values=[], seed=1),
        graph(2, [(1, 0)], kinds=[2], values=[2], seed=2),
    ]
    tokens = GraphNodes(features=2, edge_kinds=3, edge_features=1).encode(graphs)
    batch = Batch.from_data_list([to_pyg(each) for each in graphs])
    layout = tokens.layout.validate()
    assert torch.equal(tokens.values, batch.x)
    assert torch.equal(layout.edges, batch.edge_index)
    assert torch.equal(layout.edge_kinds, batch.edge_type)
    assert torch.equal(layout.edge_values, batch.edge_attr)
    assert torch.equal(layout.segment, batch.batch)
    assert torch.equal(layout.offsets, batch.ptr)


def test_absent_graphs_have_no_tokens():
    tokenizer = GraphNodes(vocabulary=5, edge_kinds=2, encoding="none", undirected=True)
    tokens = tokenizer.encode([None, graph(2, [(0, 1)], kinds=[1], ids=[4, 0]), None])
    assert tokens.layout.lengths == (0, 2, 0)
    assert tokens.ids.tolist() == [4, 0]
    assert tokens.layout.edges.tolist() == [[0, 1], [1, 0]]
    for raws in ([], [None, None]):
        empty = tokenizer.encode(raws, generators=[np.random.default_rng(0) for _ in raws])
        assert empty.ids.shape == (0,)
        assert empty.layout.samples == len(raws)
        assert empty.layout.edges.shape == (2, 0)


@pytest.mark.parametrize("encoding", ["random_walk", "laplacian"])
def test_nothing_has_no_encoding(encoding):
    tokens = GraphNodes(features=2, encoding=encoding).encode([None])
    assert tokens.values.shape == (0, 10)


def test_the_spec_counts_the_mask_the_loops_and_the_encoding():
    spec = GraphNodes(vocabulary=5, edge_kinds=2, self_loops=True, max_nodes=9).spec
    assert (spec.vocabulary, spec.special, spec.edge_kinds) == (6, {"mask": 5}, 3)
    assert (spec.extent, spec.max_tokens, spec.edges) == ((9,), 9, True)
    spec = GraphNodes(features=5, encoding="laplacian", encoding_size=3).spec
    assert (spec.features, spec.vocabulary, spec.edge_kinds) == (8, 0, 0)


def test_reverses_and_loops_are_added_where_they_lack():
    raw = graph(3, [(0, 1), (1, 0), (1, 2), (2, 2)], kinds=[0, 1, 1, 0], values=[1, 2, 3, 4])
    options = {"features": 2, "edge_kinds": 2, "edge_features": 1}
    layout = GraphNodes(**options, undirected=True, self_loops=True).encode([raw]).layout
    assert layout.edges.T.tolist() == [
        [0, 1], [1, 0], [1, 2], [2, 2], [2, 1], [0, 0], [1, 1],
    ]  # fmt: skip
    assert layout.edge_kinds.tolist() == [0, 1, 1, 0, 1, 2, 2]
    assert layout.edge_values[:, 0].tolist() == [1, 2, 3, 4, 3, 0, 0]


def test_decode_gives_the_graphs_back():
    graphs = [graph(3, [(0, 1), (2, 0)], kinds=[1, 0]), None, graph(1, [], kinds=[])]
    tokenizer = GraphNodes(features=2, edge_kinds=2, encoding="random_walk")
    back = tokenizer.decode(tokenizer.encode(graphs))
    assert back[1] is None
    for before, after in [(graphs[0], back[0]), (graphs[2], back[2])]:
        assert np.array_equal(before.nodes, after.nodes)
        assert np.array_equal(before.edges, after.edges)
        assert np.array_equal(before.edge_kinds, after.edge_kinds)


@pytest.mark.parametrize("size", [3, 8])
def test_random_walk_encodings_are_pytorch_geometrics(size):
    graphs = [path_graph(5), path_graph(3, seed=1), graph(4, [(0, 1), (1, 2), (2, 0), (3, 3)])]
    tokens = GraphNodes(features=2, encoding="random_walk", encoding_size=size).encode(graphs)
    for raw, part in zip(graphs, tokens.values.split([5, 3, 4]), strict=True):
        wanted = AddRandomWalkPE(size, attr_name="pe")(to_pyg(raw)).pe
        assert torch.allclose(part[:, 2:], wanted, atol=1e-6)


def test_laplacian_encodings_are_pytorch_geometrics_up_to_sign():
    graphs = [path_graph(6), path_graph(5, seed=1)]
    tokens = GraphNodes(features=2, encoding="laplacian", encoding_size=3).encode(graphs)
    for raw, part in zip(graphs, tokens.values.split([6, 5]), strict=True):
        wanted = AddLaplacianEigenvectorPE(3, attr_name="pe", is_undirected=True)(to_pyg(raw)).pe
        found = part[:, 2:]
        sign = (found * wanted).sum(dim=0).sign()
        assert torch.allclose(found, wanted * sign, atol=1e-5)


def test_laplacian_encodings_of_small_and_bare_graphs_are_finite():
    tokens = GraphNodes(features=2, encoding="laplacian", encoding_size=4).encode(
        [graph(1, []), graph(2, [(0, 1)]), graph(3, [])]
    )
    assert tokens.values.isfinite().all()
    assert not tokens.values[0, 2:].any()


def test_signs_of_eigenvectors_are_drawn_only_when_training():
    tokenizer = GraphNodes(features=2, encoding="laplacian", encoding_size=3)
    raws = [path_graph(6), path_graph(6)]
    still = tokenizer.encode(raws).values[:, 2:]
    assert torch.equal(still[:6], still[6:])
    drawn = tokenizer.encode(raws, generators=[np.random.default_rng(s) for s in (0, 1)]).values
    assert torch.allclose(drawn[:, 2:].abs(), still.abs())
    signs = (drawn[:, 2:] * still).reshape(2, 6, 3).sum(dim=1).sign()
    assert set(signs.reshape(-1).tolist()) == {-1.0, 1.0}


def test_dropping_keeps_the_first_node_and_edges_in_pairs():
    tokenizer = GraphNodes(features=2, edge_kinds=30, drop_nodes=0.5, drop_edges=0.3)
    raw = path_graph(10, kinds=list(range(18)))
    raws = [raw, None, raw]
    before = GraphNodes(features=2, edge_kinds=30).encode(raws)
    shrunk = 0
    for seed in range(10):
        generators = [np.random.default_rng([seed, i]) for i in range(3)]
        tokens = tokenizer.encode(raws, generators=generators)
        layout = tokens.layout.validate()
        assert layout.lengths[1] == 0
        assert torch.equal(tokens.values[0], before.values[0])
        assert torch.equal(tokens.values[layout.lengths[0]], before.values[0])
        pairs = {tuple(pair) for pair in layout.edges.T.tolist()}
        assert pairs == {(b, a) for a, b in pairs}
        for kind, (a, b) in zip(layout.edge_kinds.tolist(), layout.edges.T.tolist(), strict=True):
            ends = torch.from_numpy(raw.nodes[raw.edges[:, kind]])
            assert torch.equal(tokens.values[[a, b]], ends)
        shrunk += layout.tokens < 20
    assert shrunk
    assert torch.equal(tokenizer.encode(raws).values, before.values)


def test_a_graphs_draws_depend_on_its_own_generator_alone():
    tokenizer = GraphNodes(features=2, drop_nodes=0.4)
    raw, other = path_graph(9), path_graph(4, seed=3)
    alone = tokenizer.encode([raw], generators=[np.random.default_rng(5)])
    together = tokenizer.encode(
        [other, raw], generators=[np.random.default_rng(1), np.random.default_rng(5)]
    )
    assert torch.equal(together.select([1]).values, alone.values)
    assert torch.equal(together.select([1]).layout.edges, alone.layout.edges)


class Anew:
    """Generators made when asked for, as data workers have them."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError
        return np.random.default_rng(3)


def test_generators_made_when_asked_for_draw_what_ready_ones_draw():
    tokenizer = GraphNodes(features=2, drop_nodes=0.3, drop_edges=0.3, encoding="laplacian")
    raw = path_graph(12)
    ready = tokenizer.encode([raw], generators=[np.random.default_rng(3)])
    assert torch.equal(tokenizer.encode([raw], generators=Anew()).values, ready.values)


@pytest.mark.parametrize(
    ("options", "raw", "reason"),
    [
        ({"features": 2}, graph(0, []), "no nodes"),
        ({"features": 2}, graph(4, [(0, 1), (0, 9)]), "edge 1 joins nodes 0 and 9.*4 nodes"),
        ({"features": 2}, graph(4, [(-1, 1)]), "edge 0 joins nodes -1 and 1"),
        ({"features": 3}, graph(4, []), "set features to 2"),
        ({"features": 2}, graph(2, [], ids=[0, 1]), "set vocabulary"),
        ({"vocabulary": 2}, graph(2, []), "set features"),
        ({"vocabulary": 2}, graph(2, [], ids=[0, 2]), "a node's id is 2, but vocabulary is 2"),
        ({"vocabulary": 2}, graph(2, [], ids=[0, -1]), "id is -1"),
        ({"features": 2, "edge_kinds": 2}, graph(2, [(0, 1)]), "no kind"),
        ({"features": 2, "edge_kinds": 2}, graph(2, [(0, 1)], kinds=[2]), "kind is 2"),
        ({"features": 2, "edge_features": 2}, graph(2, [(0, 1)], values=[1]), "edge_features to 1"),
        ({"features": 2, "edge_features": 1}, graph(2, [(0, 1)], values=[np.nan]), "NaN"),
        ({"features": 2, "max_nodes": 2}, graph(3, []), "max_nodes is 2"),
        ({"features": 2}, Graph(np.full((1, 2), np.inf, np.float32), np.zeros((2, 0), int)), "NaN"),
    ],
)
def test_check_refuses_what_encode_can_not_take(options, raw, reason):
    with pytest.raises(UnreadableError, match=reason):
        GraphNodes(**options).check(raw)


def test_a_graph_without_edges_is_accepted():
    raw = graph(3, [])
    for options in ({}, {"edge_kinds": 2}, {"edge_features": 4}, {"encoding": "laplacian"}):
        tokenizer = GraphNodes(features=2, **options)
        tokenizer.check(raw)
        assert tokenizer.encode([raw, raw]).layout.edges.shape == (2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of them above 0"),
        ({"features": 2, "vocabulary": 2}, "one of them above 0"),
        ({"features": -1}, "negative"),
        ({"vocabulary": 2, "encoding": "laplacian"}, "appended to features"),
        ({"features": 2, "encoding": "none", "max_nodes": 0}, "max_nodes"),
        ({"features": 2, "encoding": "laplacian", "encoding_size": 0}, "encoding_size"),
        ({"features": 2, "encoding": "degree"}, "encoding must be"),
        ({"features": 2, "drop_nodes": 1.0}, "drop_nodes"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GraphNodes(**options)


def test_it_can_be_pickled():
    tokenizer = pickle.loads(pickle.dumps(GraphNodes(features=2, drop_nodes=0.1)))
    assert tokenizer.encode([graph(2, [])]).layout.lengths == (2,)


@pytest.mark.slow
def test_the_plugin_and_its_tokenizer_do_not_import_torch_geometric():
    code = (
        "import sys, polymodal_graph; assert 'torch' not in sys.modules; "
        "import polymodal_graph.nodes, polymodal_graph.reading, polymodal_graph.neighbourhoods; "
        "assert not {'torch_geometric', 'rdkit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
