import gzip
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch

from polymodal import DataError, UnreadableError

pytest.importorskip("torch_geometric")
from torch_geometric.utils import k_hop_subgraph

from polymodal_graph.edge_list import EdgeListSource
from polymodal_graph.neighbourhoods import NeighbourhoodSource
from polymodal_graph.sampling import NeighbourSampler


def table(path, text):
    path.write_text(text)
    return str(path)


@pytest.fixture
def files(tmp_path):
    edges = "source,target,bond,weight\nb,a,single,0.5\na,c,double,1.5\n"
    nodes = "node,height,label,split,width,name\na,1,0,train,2,x\nb,3,1,test,4,y\nc,5,,none,6,z\n"
    return table(tmp_path / "edges.csv", edges), table(tmp_path / "nodes.csv", nodes)


def test_one_graph_has_nodes_in_the_order_of_their_table(files):
    edges, nodes = files
    source = EdgeListSource(
        edges, nodes=nodes, features=["height", "width"], edge_kind="bond", edge_values=["weight"]
    )
    assert len(source) == 1
    graph = source.row(0)["graph"]
    assert graph.nodes.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert graph.edges.tolist() == [[1, 0], [0, 2]]
    assert graph.edge_kinds.tolist() == [1, 0]  # double before single
    assert graph.edge_values.tolist() == [[0.5], [1.5]]
    assert source.context()["graph"].edges.tolist() == graph.edges.tolist()


def test_nodes_without_a_table_are_the_ends_of_edges(tmp_path):
    source = EdgeListSource(table(tmp_path / "e.csv", "source,target\n7,3\n3,9\n"))
    graph = source.row(0)["graph"]
    assert graph.nodes.tolist() == [0, 0, 0]
    assert graph.edges.tolist() == [[1, 0], [0, 2]]


def test_words_can_be_node_ids(files):
    edges, nodes = files
    assert EdgeListSource(edges, nodes=nodes, node_kind="name").row(0)["graph"].nodes.tolist() == [
        0, 1, 2,
    ]  # fmt: skip


def edges_of(tmp_path, edges, nodes=None, **options):
    nodes = None if nodes is None else table(tmp_path / "names.csv", nodes)
    return EdgeListSource(table(tmp_path / "e.csv", edges), nodes=nodes, **options).row(0)["graph"]


@pytest.mark.parametrize("pair", ["007,7", "1.10,1.1", "1e3,1000", "NA,nan", "A,a", "True,true"])
def test_names_are_text_and_those_written_differently_are_two(tmp_path, pair):
    graph = edges_of(tmp_path, f"source,target\n{pair}\n")
    assert len(graph.nodes) == 2
    assert sorted(graph.edges[:, 0].tolist()) == [0, 1]
    both = "\n".join(pair.split(","))
    graph = edges_of(tmp_path, f"source,target\n{pair}\n", f"node,x\n{both}\n".replace(
        "\n", ",1\n").replace("node,x,1", "node,x"))  # fmt: skip
    assert graph.edges.tolist() == [[0], [1]]


def test_blanks_around_a_name_are_no_part_of_it(tmp_path):
    graph = edges_of(tmp_path, "source,target\n1, 2\n2 ,x\n x,1\n")
    assert len(graph.nodes) == 3


def test_nodes_whose_names_are_whole_numbers_stand_in_the_order_of_those(tmp_path):
    graph = edges_of(tmp_path, "source,target\n10,9\n9,-1\n")
    assert graph.edges.tolist() == [[2, 1], [1, 0]]


def test_a_name_may_be_a_number_in_one_table_and_a_word_in_another(tmp_path):
    graph = edges_of(tmp_path, "source,target\n1,2\n", "node,x\n2,5\na,6\n1,7\n")
    assert graph.edges.tolist() == [[2], [0]]


def test_what_pandas_makes_of_whole_numbers_with_gaps_is_named(tmp_path):
    with pytest.raises(DataError, match=r"writes numbers as '1\.0', 'target' as '2'"):
        edges_of(tmp_path, "source,target\n1.0,2\n2.0,1\n")
    with pytest.raises(UnreadableError, match=r"'1' and '1\.0' are two names"):
        edges_of(tmp_path, "source,target\n1.0,2.0\n", "node\n1\n2\n")
    with pytest.raises(UnreadableError, match="edge 2 has no target"):
        edges_of(tmp_path, "source,target\na,b\na,\n")


def test_columns_of_codes_are_text_and_no_feature(tmp_path):
    nodes = "node,zip,x\na,00501,1.5\nb,10115,2.5\n"
    graph = edges_of(tmp_path, "source,target\na,b\n", nodes)
    assert graph.nodes.tolist() == [[1.5], [2.5]]
    graph = edges_of(tmp_path, "source,target\na,b\n", nodes, node_kind="zip")
    assert graph.nodes.tolist() == [0, 1]
    source = EdgeListSource(
        table(tmp_path / "e.csv", "source,target,g\na,b,07\na,b,7\n"),
        graphs=table(tmp_path / "g.csv", "g,code\n07,01\n7,1\n"),
        graph="g",
    )
    rows = source.rows(range(2))
    assert [(row["g"], row["code"]) for row in rows] == [("07", "01"), ("7", "1")]


@pytest.mark.parametrize(
    ("content", "position"),
    [
        ("source,target\né,b\n".encode("latin-1"), 14),
        ("source,target,naïve\na,b,c\n".encode("latin-1"), 16),
        (("source,target\n" + "ab,cé\n" * 9).encode()[:-2] + b"\n", None),
    ],
)
def test_a_table_that_is_not_utf_8_is_refused_with_the_place(tmp_path, content, position):
    path = tmp_path / "latin.csv"
    path.write_bytes(content)
    where = "" if position is None else f"position {position}"
    for make in (lambda: EdgeListSource(str(path)), lambda: edge_and_node_table(tmp_path, path)):
        with pytest.raises(DataError, match=rf"latin\.csv is not UTF-8: byte 0x.. at {where}"):
            make().row(0)


def edge_and_node_table(tmp_path, nodes):
    return EdgeListSource(table(tmp_path / "e.csv", "source,target\na,b\n"), nodes=str(nodes),
                          node="source")  # fmt: skip


def test_a_byte_order_mark_is_no_part_of_a_title_and_a_title_twice_is_refused(tmp_path):
    assert len(edges_of(tmp_path, "\ufeffsource,target\na,b\n").nodes) == 2
    with pytest.raises(DataError, match="two columns are called 'source'"):
        edges_of(tmp_path, "source,target,source\na,b,c\n")


def test_a_packed_table_is_read_as_far_as_it_grows_like_one(tmp_path, monkeypatch):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"source,target\n" + b"a,b\n" * 5000))
    assert EdgeListSource(str(path)).row(0)["graph"].edges.shape == (2, 5000)
    monkeypatch.setattr("polymodal.ground.unpacking.FREE", 20_013)
    with pytest.raises(DataError, match=r"e\.csv\.gz unpacks to more than 100 times"):
        EdgeListSource(str(path)).row(0)
    monkeypatch.setattr("polymodal.ground.unpacking.FREE", 20_014)
    assert len(EdgeListSource(str(path)).row(0)["graph"].nodes) == 2
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="packed whole"):
        EdgeListSource(str(path)).row(0)


@pytest.mark.parametrize("name", ["a\0b.csv", "a" * 5000])
def test_a_name_that_is_no_path_is_no_file(name):
    with pytest.raises(DataError, match="no such file"):
        EdgeListSource(name).row(0)


def test_a_column_of_graphs_makes_many_each_with_its_own_names(tmp_path):
    source = EdgeListSource(
        table(tmp_path / "e.csv", "source,target,molecule\n0,1,q\n1,0,p\n2,0,p\n"),
        nodes=table(
            tmp_path / "n.csv", "node,molecule,x\n0,p,1\n0,q,4\n1,p,2\n1,q,5\n2,p,3\n0,r,6\n"
        ),
        graphs=table(tmp_path / "g.csv", "molecule,toxic\np,1\nq,\nr,0\n"),
        graph="molecule",
    )
    assert source.columns() == ("graph", "molecule", "toxic")
    rows = source.rows(range(len(source)))
    assert [row["molecule"] for row in rows] == ["p", "q", "r"]
    assert [row["toxic"] for row in rows] == [1, None, 0]
    assert [row["graph"].nodes[:, 0].tolist() for row in rows] == [[1, 2, 3], [4, 5], [6]]
    assert [row["graph"].edges.tolist() for row in rows] == [
        [[1, 2], [0, 0]],
        [[0], [1]],
        [[], []],
    ]


def test_an_edge_to_no_node_spoils_its_graph_alone(tmp_path):
    source = EdgeListSource(
        table(tmp_path / "e.csv", "source,target,g\n0,1,1\n0,9,2\n"),
        nodes=table(tmp_path / "n.csv", "node,g,x\n0,1,1\n1,1,1\n0,2,1\n"),
        graph="g",
    )
    good, bad = source.rows([0, 1])
    assert good["graph"].edges.tolist() == [[0], [1]]
    assert isinstance(bad, UnreadableError)
    assert "0 -> 9" in str(bad)


def test_what_is_wrong_with_a_table_is_said(tmp_path, files):
    edges, nodes = files
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        len(EdgeListSource(str(tmp_path / "gone.csv"), graph="g"))
    with pytest.raises(DataError, match=r"no column 'sourse'.*Did you mean 'source'"):
        EdgeListSource(edges, source="sourse").row(0)
    with pytest.raises(DataError, match="Expected 2 columns, got 3"):
        EdgeListSource(table(tmp_path / "broken.csv", "source,target\n1,2\n1,2,3\n")).row(0)
    with pytest.raises(DataError, match="must hold numbers"):
        EdgeListSource(edges, nodes=nodes, features=["name"]).row(0)
    with pytest.raises(UnreadableError, match="named twice"):
        EdgeListSource(edges, nodes=table(tmp_path / "t.csv", "node\na\na\nb\nc\n")).row(0)


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="graph"):
        EdgeListSource("e.csv", graphs="g.csv")
    with pytest.raises(ValueError, match="not both"):
        EdgeListSource("e.csv", nodes="n.csv", features=["x"], node_kind="y")
    with pytest.raises(ValueError, match="give nodes"):
        EdgeListSource("e.csv", features=["x"])
    with pytest.raises(ValueError, match="fanouts"):
        NeighbourhoodSource("g.npz", fanouts=[0])
    with pytest.raises(ValueError, match="seed"):
        NeighbourhoodSource("g.npz", seed=-1)
    with pytest.raises(ValueError, match="subgraph"):
        NeighbourhoodSource("g.npz", subgraph="all")


def random_graph(nodes=40, edges=160, seed=0):
    return np.random.default_rng(seed).integers(0, nodes, size=(2, edges))


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_all_neighbours_are_what_pytorch_geometric_finds(hops):
    edges = np.unique(random_graph(), axis=1)
    sampler = NeighbourSampler(edges, 40)
    for centre in range(40):
        nodes, local, numbers = sampler(centre, [-1] * hops, np.random.default_rng(0))
        wanted, wanted_edges, _, _ = k_hop_subgraph(
            centre, hops, torch.from_numpy(edges), num_nodes=40
        )
        assert nodes[0] == centre
        assert sorted(nodes) == wanted.tolist()
        found = nodes[local]
        assert sorted(found.T.tolist()) == sorted(wanted_edges.T.tolist())
        assert np.array_equal(found, edges[:, numbers])


def test_no_more_than_the_fan_out_is_taken_of_a_node_and_nothing_twice():
    edges = random_graph(nodes=30, edges=600)
    sampler = NeighbourSampler(edges, 30)
    nodes, local, numbers = sampler(3, [4, 2], np.random.default_rng(1), induced=False)
    assert len(set(nodes)) == len(nodes)
    assert len(set(numbers)) == len(numbers)
    incoming = np.bincount(local[1], minlength=len(nodes))
    assert incoming[0] == 4
    assert incoming.max() <= 4
    assert (nodes[local] == edges[:, numbers]).all()


def test_each_neighbour_is_as_likely_as_another():
    star = np.stack([np.arange(1, 9), np.zeros(8, np.int64)])
    sampler = NeighbourSampler(star, 9)
    generator = np.random.default_rng(0)
    seen = np.zeros(9)
    for _ in range(2000):
        nodes, _, _ = sampler(0, [3], generator)
        assert len(nodes) == 4
        seen[nodes] += 1
    assert np.abs(seen[1:] / 2000 - 3 / 8).max() < 0.05


def test_a_lonely_node_is_its_own_neighbourhood():
    nodes, edges, _ = NeighbourSampler(np.zeros((2, 0), np.int64), 3)(
        2, [5, 5], np.random.default_rng(0)
    )
    assert nodes.tolist() == [2]
    assert edges.shape == (2, 0)


@pytest.fixture
def citations(tmp_path):
    path = tmp_path / "papers.npz"
    masks = np.eye(4, dtype=bool)
    np.savez(
        path,
        edge_index=np.array([[0, 1, 2], [1, 2, 3]], np.int32),
        x_row=np.array([0, 1, 3], np.int32),
        x_col=np.array([2, 0, 1], np.int32),
        x_shape=np.array([4, 3]),
        y=np.array([5, 6, 7, 8], np.int16),
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )
    return str(path)


def test_neighbourhoods_of_an_npz_file(citations):
    source = NeighbourhoodSource(citations, fanouts=[2])
    assert len(source) == 4
    row = source.row(2)
    assert set(row) == set(source.columns())
    assert (row["label"], row["split"], row["node"]) == (7, "test", 2)
    assert row["graph"].nodes.tolist() == [[0, 0, 0], [1, 0, 0]]  # the centre, then paper 1
    assert row["graph"].edges.tolist() == [[1], [0]]
    assert [source.row(i)["split"] for i in range(4)] == ["train", "validation", "test", "none"]
    both = NeighbourhoodSource(citations, fanouts=[2], undirected=True).row(2)["graph"]
    assert len(both.nodes) == 3
    assert both.edges.shape == (2, 4)
    whole = source.context()
    assert whole["graph"].nodes.shape == (4, 3)
    assert whole["labels"].tolist() == [5, 6, 7, 8]


def test_splits_choose_the_centres_and_not_the_neighbours(citations):
    source = NeighbourhoodSource(citations, splits=["test"])
    assert len(source) == 1
    assert source.row(0)["node"] == 2
    assert len(source.row(0)["graph"].nodes) == 3


def test_a_row_is_the_same_each_time_and_in_every_process(tmp_path):
    path = tmp_path / "g.npz"
    np.savez(path, edge_index=random_graph(20, 300), x=np.eye(20))
    source = NeighbourhoodSource(str(path), fanouts=[3, 2])
    first = source.row(4)["graph"]
    size = len(pickle.dumps(source))
    assert size < 2000  # the graph itself does not travel
    again = pickle.loads(pickle.dumps(source))
    again.row(7)
    second = again.row(4)["graph"]
    assert np.array_equal(first.nodes, second.nodes)
    assert np.array_equal(first.edges, second.edges)
    other = NeighbourhoodSource(str(path), fanouts=[3, 2], seed=1).row(4)["graph"]
    assert not np.array_equal(first.nodes, other.nodes)


def test_neighbourhoods_of_tables(files):
    edges, nodes = files
    source = NeighbourhoodSource(edges, nodes=nodes, fanouts=[1, 1])
    rows = source.rows(range(3))
    assert [row["label"] for row in rows] == [0, 1, None]
    assert [row["split"] for row in rows] == ["train", "test", "none"]
    assert rows[2]["graph"].nodes.tolist() == [[5, 6], [1, 2], [3, 4]]
    assert rows[2]["graph"].edges.tolist() == [[1, 2], [0, 1]]


def test_a_label_is_never_a_feature(tmp_path, files):
    edges, _ = files
    nodes = table(tmp_path / "bare.csv", "node,label\na,1\nb,0\nc,1\n")
    assert NeighbourhoodSource(edges, nodes=nodes).row(0)["graph"].nodes.tolist() == [0, 0]


def test_what_is_wrong_with_a_large_graph_is_said(tmp_path, files):
    edges, _ = files
    with pytest.raises(DataError, match="no such file"):
        len(NeighbourhoodSource(str(tmp_path / "gone.npz")))
    text = tmp_path / "text.npz"
    text.write_text("no zip at all")
    with pytest.raises(DataError, match=r"text\.npz"):
        len(NeighbourhoodSource(str(text)))
    bare = tmp_path / "bare.npz"
    np.savez(bare, x=np.eye(2))
    with pytest.raises(DataError, match="edge_index"):
        len(NeighbourhoodSource(str(bare)))
    far = tmp_path / "far.npz"
    np.savez(far, x=np.eye(2), edge_index=np.array([[0], [5]]))
    with pytest.raises(DataError, match="outside the graph's 2 nodes"):
        len(NeighbourhoodSource(str(far)))
    short = tmp_path / "short.npz"
    np.savez(short, x=np.eye(2), edge_index=np.array([[0], [1]]), y=np.zeros(3))
    with pytest.raises(DataError, match="y has 3 rows"):
        len(NeighbourhoodSource(str(short)))
    nodes = table(tmp_path / "n.csv", "node,split\na,train\nb,dev\nc,test\n")
    with pytest.raises(DataError, match="got 'dev'"):
        len(NeighbourhoodSource(edges, nodes=nodes))


EDGES = np.array([[0], [1]])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.eye(2), "train_mask": np.eye(2, dtype=bool)}, r"train_mask has shape \[2, 2\]"),
        ({"x": np.eye(2), "train_mask": np.array([0, 5])}, "must hold true and false"),
        ({"x": np.eye(2), "y": np.array(1)}, "y has no rows"),
        ({"x_row": [0], "x_col": [-1], "x_shape": [2, 3]}, "x_col must lie from 0 to below 3"),
        ({"x_row": [2], "x_col": [0], "x_shape": [2, 3]}, "x_row must lie from 0 to below 2"),
        ({"x_col": [0], "x_shape": [2, 3]}, "x_shape needs x_row"),
        ({"x_row": [0], "x_col": [0], "x_shape": [2]}, r"x_shape must be \[node, feature\]"),
        ({"x_row": [0], "x_col": [0], "x_shape": [10**9, 10**9]}, "asks for"),
        ({"edge_index": np.array([[0], [10**13]])}, "asks for"),
        ({"x": np.array([["a"], ["b"]])}, "must be numbers"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, arrays, reason):
    path = tmp_path / "g.npz"
    np.savez(path, **{"edge_index": EDGES, **arrays})
    with pytest.raises(DataError, match=reason):
        len(NeighbourhoodSource(str(path)))


def test_masks_may_be_columns_and_numbers(tmp_path):
    path = tmp_path / "g.npz"
    masks = {"train_mask": np.array([[True], [False]]), "test_mask": np.array([0, 1])}
    np.savez(path, edge_index=EDGES, x=np.eye(2), **masks)
    source = NeighbourhoodSource(str(path))
    assert [row["split"] for row in source.rows(range(2))] == ["train", "test"]


def test_a_damaged_npz_file_is_a_data_error(tmp_path):
    path = tmp_path / "g.npz"
    np.savez_compressed(path, edge_index=random_graph(), x=np.eye(40))
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 20):
        for content in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(content)
            with suppress(DataError):  # and nothing else
                len(NeighbourhoodSource(str(path)))
