import numpy as np
import pytest

pytest.importorskip("torch_geometric")

from polymodal_demo.blocks import Blocks


def test_edges_are_as_frequent_as_their_chances_and_features_bear_the_block():
    row = Blocks(seed=3).row(0)
    edges, labels = row["graph"].edges, row["labels"]
    assert labels.tolist() == sorted(labels) and np.bincount(labels).tolist() == [100] * 6
    same = (labels[edges[0]] == labels[edges[1]]).sum() / 2
    assert same / (6 * 100 * 99 / 2) == pytest.approx(0.05, rel=0.1)
    other = edges.shape[1] / 2 - same
    assert other / (15 * 100 * 100) == pytest.approx(0.006, rel=0.1)
    forward = {tuple(edge) for edge in edges.T.tolist()}
    assert {(b, a) for a, b in forward} == forward and len(forward) == edges.shape[1]
    assert not (edges[0] == edges[1]).any()
    means = np.stack([row["graph"].nodes[labels == block].mean(axis=0) for block in range(6)])
    assert means.std() == pytest.approx((0.35**2 + 0.01) ** 0.5, rel=0.1)


def test_a_seed_says_everything_and_parts_are_of_the_same_graph():
    whole, again = Blocks(size=10, seed=1).row(0), Blocks(size=10, seed=1).row(0)
    assert np.array_equal(whole["graph"].edges, again["graph"].edges)
    assert not np.array_equal(whole["graph"].nodes, Blocks(size=10, seed=2).row(0)["graph"].nodes)
    parts = Blocks(size=10, seed=1, parts=4)
    assert len(parts) == 4
    for row in parts.rows(range(4)):
        assert np.array_equal(row["graph"].nodes, whole["graph"].nodes[row["nodes"]])
    with pytest.raises(ValueError, match="within and between"):
        Blocks(within=1.5)
    with pytest.raises(ValueError, match="no more than"):
        Blocks(size=1, parts=7)
