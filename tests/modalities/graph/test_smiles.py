import numpy as np
import pytest

from polymodal import UnreadableError

pytest.importorskip("rdkit")

from polymodal_graph.smiles import ATOM_FEATURES, ATOM_KINDS, BOND_KINDS, ELEMENTS, SmilesReader


def test_bonds_are_two_edges_of_their_kind():
    graph = SmilesReader()("C=CC#N ")  # a space after, as files have it
    assert graph.edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    assert graph.edge_kinds.tolist() == [1, 1, 0, 0, 2, 2]
    assert SmilesReader()("c1ccccc1").edge_kinds.tolist() == [3] * 12
    assert max(SmilesReader()("[NH3]->[Fe]").edge_kinds) == BOND_KINDS - 1


def test_atoms_are_one_hot_in_each_group():
    graph = SmilesReader()("C[NH3+]")
    assert graph.nodes.shape == (2, ATOM_FEATURES)
    assert graph.nodes.sum(axis=1).tolist() == [5, 5]
    element = len(ELEMENTS) + 1
    assert graph.nodes[1].nonzero()[0].tolist() == [
        ELEMENTS.index("N"),
        element + 4,  # four neighbours, hydrogens too
        element + 8 + 3,  # charge +1
        element + 8 + 6 + 3,  # three hydrogens
        element + 8 + 6 + 6 + 3,  # SP3
    ]
    ring = SmilesReader()("c1ccccc1").nodes
    assert (ring[:, -2:] == 1).all()


def test_elements_are_ids_and_the_unknown_has_its_own():
    graph = SmilesReader(atoms="elements")("*O")
    assert graph.nodes.tolist() == [ATOM_KINDS - 1, ELEMENTS.index("O")]
    assert graph.nodes.dtype == np.int64


def test_hydrogens_become_nodes_on_request():
    assert len(SmilesReader(hydrogens=True)("C").nodes) == 5


def test_a_single_atom_has_no_edges():
    graph = SmilesReader()("[Na+]")
    assert graph.edges.shape == (2, 0)
    assert graph.edge_kinds.shape == (0,)


@pytest.mark.parametrize("value", ["C1CC", "not a molecule", "", "  ", None, 3, "C(C)(C)(C)(C)C"])
def test_a_bad_smiles_is_refused_in_silence(value, capfd):
    with pytest.raises(UnreadableError, match="SMILES"):
        SmilesReader()(value)
    assert capfd.readouterr().err == ""
